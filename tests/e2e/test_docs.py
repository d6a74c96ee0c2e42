"""Every command in the README and in the pages of docs/how-to is run, in the order of its page, against a real server.

Blocks marked `sh` and `python` are commands; the default addresses in them are those of the test's server.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from program import environment, serving

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
STAND_INS = Path(__file__).parent / "stand_ins"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#:]+)\)")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("docs") / "data") as program:
        yield program
        assert program.stop() == 0


def commands(page):
    """The page as one shell script; what makes and serves the project is tried as far as it changes nothing."""
    lines = ["set -euo pipefail"]
    for kind, text in _BLOCK.findall(page.read_text()):
        if kind == "python":
            lines.append(f"python - <<'END OF BLOCK'\n{text}\nEND OF BLOCK\n")
        elif kind == "sh":
            lines.append(re.sub(r"^make ", f"make --no-print-directory -n -C '{ROOT}' ", text, flags=re.MULTILINE))
        else:
            assert kind in {"mermaid", "text", "yaml"}, f"{page.name}: a block is marked {kind!r}"
    return "\n".join(lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_works(page, program, tmp_path):
    script = commands(page)
    for default, actual in (("127.0.0.1:8080", program.http), ("127.0.0.1:8333", program.s3)):
        script = script.replace(default, actual.removeprefix("http://"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}{os.pathsep}{STAND_INS}"
    ended = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment({"PRISM_ENDPOINT": program.grpc, "PATH": path}),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, f"{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}"


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in _LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links {target}"
