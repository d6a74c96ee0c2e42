"""Make `.venv` ready: the locked requirements and the two packages of this repository, editable.

Needs git's checkout and a Python, nothing else: no uv, no pip, no venv module. It finds uv or fetches it into
`.cache/`, and uv does the rest. What always holds: third-party files are installed only when their hash stands in the
lock; a second call that has nothing to do returns at once; an interrupted call is simply repeated. It does not choose
versions (`make lock` does) and never downloads a Python.
Written so that an old Python can read it and say what is missing.
"""

import configparser
import contextlib
import fcntl
import hashlib
import html
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".ready"
CACHE = ROOT / ".cache"
UV_HOME = CACHE / "uv"
UV_LOCK = ROOT / "scripts" / "uv.lock.txt"
INPUTS = (
    "pyproject.toml",
    "sdk/python/pyproject.toml",
    "requirements.lock",
    "scripts/uv.lock.txt",
    "scripts/bootstrap.py",
)
OLDEST = (3, 11)
NO_UV = """cannot get uv, which installs everything else. One of these will do:
  - Debian, Ubuntu:   apt-get install python3-venv   (as root)
  - another system:   a Python 3.11 or newer that has pip or the venv module
  - uv itself, anywhere on PATH
  - a package index named in PIP_INDEX_URL"""


def main():
    wanted = f"{ROOT}\n{digest()}\n"
    if is_ready(wanted):
        return
    with one_at_a_time():
        if is_ready(wanted):
            return
        python = find_python()
        environment = settings()
        uv = find_uv(environment) or fetch_uv(python, environment)
        make_venv(uv, python, environment)
        install(uv, environment)
        temporary = STAMP.with_suffix(".new")
        temporary.write_text(wanted)
        temporary.replace(STAMP)


def digest():
    """One hash over every file that decides what is installed."""
    total = hashlib.sha256()
    for name in INPUTS:
        try:
            total.update((ROOT / name).read_bytes())
        except FileNotFoundError:
            stop(f"{name} is missing: this is not a whole checkout")
    return total.hexdigest()


def is_ready(wanted):
    """The stamp is written last and the interpreter still runs (a link whose Python was removed does not exist)."""
    try:
        return STAMP.read_text() == wanted and PYTHON.exists()
    except OSError:
        return False


@contextlib.contextmanager
def one_at_a_time():
    """Two `make` at once: the second waits for the first and finds everything done."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "bootstrap.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is running here, waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def find_python():
    """The interpreter that runs this, or the oldest newer one on PATH."""
    if sys.version_info >= OLDEST:
        return sys.executable
    for minor in range(OLDEST[1], OLDEST[1] + 4):
        found = shutil.which(f"python3.{minor}")
        if found and runs(found, "--version"):
            return found
    this = f"{platform.python_version()} ({sys.executable})"
    return stop(
        f"Prism needs Python 3.11 or newer; this is {this}. Install one, or name it: make PYTHON=/path/to/python3.11"
    )


def settings():
    """The caller's environment, with what pip was told about indexes and certificates passed on to uv."""
    environment = dict(os.environ, UV_PYTHON_DOWNLOADS="never", UV_NO_PROGRESS="1")
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"):
        environment.pop(name, None)
    index = configured_index()
    if index and not environment.get("UV_INDEX_URL"):
        environment.setdefault("UV_DEFAULT_INDEX", index)
    if os.environ.get("PIP_CERT"):
        environment.setdefault("SSL_CERT_FILE", os.environ["PIP_CERT"])
    return environment


def configured_index():
    """The package index that the environment or pip's configuration names, or None."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if os.environ.get(name):
            return os.environ[name]
    home = Path.home()
    files = [Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    parser = configparser.RawConfigParser()
    with contextlib.suppress(configparser.Error, OSError):
        parser.read([*files, os.environ.get("PIP_CONFIG_FILE") or os.devnull])
    return parser.get("global", "index-url", fallback=None)


def find_uv(environment):
    """A uv that runs: on PATH (where a version switcher's stub may only pretend), or fetched before."""
    for candidate in (shutil.which("uv"), str(UV_HOME / "bin" / "uv")):
        if candidate and runs(candidate, "--version", environment=environment):
            return candidate
    return None


def fetch_uv(python, environment):
    """Get uv by the first way that this machine has, each pinned by hash."""
    say("fetching uv into .cache/")
    shutil.rmtree(UV_HOME, ignore_errors=True)
    for way in (uv_by_venv, uv_by_pip, uv_by_index, uv_by_apt):
        way(python, environment)
        uv = find_uv(environment)
        if uv:
            return uv
    return stop(NO_UV)


def uv_by_venv(python, environment):
    if runs(python, "-c", "import venv, ensurepip", environment=environment) and runs(
        python, "-m", "venv", "--clear", str(UV_HOME), environment=environment
    ):
        pip = (str(UV_HOME / "bin" / "python"), "-m", "pip", "install", "--quiet")
        runs(*pip, "--require-hashes", "-r", str(UV_LOCK), environment=environment, shown=True)


def uv_by_pip(python, environment):
    if runs(python, "-m", "pip", "--version", environment=environment):
        pip = (python, "-m", "pip", "install", "--quiet", "--target", str(UV_HOME), "--upgrade")
        runs(*pip, "--require-hashes", "-r", str(UV_LOCK), environment=environment, shown=True)


def uv_by_index(_python, _environment):
    """Without pip: the wheel for this machine from the configured index, taken only if the lock knows its hash."""
    index = configured_index()
    if not index:
        return
    page_url = index.rstrip("/") + "/uv/"
    known = set(re.findall(r"sha256:([0-9a-f]{64})", UV_LOCK.read_text()))
    try:
        for link, name in links(page_url):
            if fits(name):
                wheel = fetch(link)
                if hashlib.sha256(wheel).hexdigest() in known:
                    unpack(wheel)
                    return
    except (urllib.error.URLError, TimeoutError) as error:
        say(f"the configured package index did not answer: {getattr(error, 'reason', error)}")


def uv_by_apt(_python, environment):
    """Debian without python3-venv: root may add it; anybody else is told to."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    say("no pip and no venv module here: installing Debian's python3-venv")
    apt = dict(environment, DEBIAN_FRONTEND="noninteractive")
    install = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", "python3-venv")
    if runs(*install, environment=apt) or (
        runs("apt-get", "update", "-qq", environment=apt, shown=True) and runs(*install, environment=apt, shown=True)
    ):
        uv_by_venv("/usr/bin/python3", environment)


def links(page_url):
    """Every (address, file name) of one project's page on a simple index."""
    for target in re.findall(r'<a\s[^>]*href="([^"]+)"', fetch(page_url).decode("utf-8", "replace")):
        address = urllib.parse.urljoin(page_url, html.unescape(target).split("#")[0])
        yield address, urllib.parse.unquote(urllib.parse.urlsplit(address).path.rsplit("/", 1)[-1])


def fits(name):
    """Whether this file is the locked uv for this system and processor."""
    version = re.search(r"^uv==(\S+)", UV_LOCK.read_text(), re.MULTILINE)
    machine = {"amd64": "x86_64", "arm64": "(aarch64|arm64)", "aarch64": "(aarch64|arm64)"}
    system = {"Linux": "manylinux", "Darwin": "macosx"}.get(platform.system(), "unknown")
    here = machine.get(platform.machine().lower(), re.escape(platform.machine()))
    return re.fullmatch(rf"uv-{re.escape(version.group(1))}-py3-none-{system}\S*_{here}\S*\.whl", name) is not None


def fetch(address):
    with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310 - the configured package index
        return answer.read()


def unpack(wheel):
    """Only the program is taken out of the wheel."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        inside = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
        program = UV_HOME / "bin" / "uv"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_bytes(archive.read(inside))
        program.chmod(0o755)


def make_venv(uv, python, environment):
    """Keep a virtual environment that works and was made here; anything else is made anew."""
    asked = "import sys; print(sys.version_info >= (3, 11), sys.prefix)"
    made_here = not STAMP.exists() or STAMP.read_text().startswith(f"{ROOT}\n")
    if made_here and answer(str(PYTHON), "-c", asked) == f"True {VENV}":
        return
    say("making .venv")
    shutil.rmtree(VENV, ignore_errors=True)
    if not runs(uv, "venv", "--quiet", "--python", python, str(VENV), environment=environment, shown=True):
        stop("could not make .venv, see above")


def install(uv, environment):
    say("installing the locked requirements (the first time takes a minute)")
    pip = (uv, "pip", "install", "--quiet", "--python", str(PYTHON))
    if not runs(*pip, "--require-hashes", "-r", str(ROOT / "requirements.lock"), environment=environment, shown=True):
        stop("could not install the locked requirements, see above (no network, or no package index reached?)")
    local = ("--no-deps", "--no-build-isolation", "-e", str(ROOT), "-e", str(ROOT / "sdk" / "python"))
    if not runs(*pip, *local, environment=environment, shown=True):
        stop("could not install this repository's packages, see above")


def runs(*command, environment=None, shown=False):
    """Run a program to its end; its output is shown only where a person can act on it."""
    output = None if shown else subprocess.DEVNULL
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    except OSError:
        return False
    return done.returncode == 0


def answer(*command):
    try:
        found = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return ""
    return found.stdout.decode("utf-8", "replace").strip()


def say(sentence):
    print(f"bootstrap: {sentence}", file=sys.stderr, flush=True)


def stop(sentence):
    sys.exit(f"bootstrap: {sentence}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        stop("interrupted; the next call goes on from here")
    except OSError as error:
        stop(f"{error.strerror or error}: {error.filename or ''}")
