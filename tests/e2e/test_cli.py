"""The command line as scripts and people use it: streams, exit codes, JSON, one line for an error, quiet ends."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time

import pytest
from program import environment, prism, serving, until


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("cli") / "data") as program:
        yield {"PRISM_ENDPOINT": program.grpc}
        assert program.stop() == 0


@pytest.fixture
def run(endpoint, tmp_path):
    """Run `prism objectstore` in a folder of its own; the finished process."""

    def run(*arguments, code=0, stdin=b"", env=None):
        ended = prism("objectstore", *arguments, env={**endpoint, **(env or {})}, stdin=stdin, cwd=tmp_path)
        assert ended.returncode == code, ended.stderr.decode()
        assert b"Traceback" not in ended.stderr
        return ended

    return run


def test_a_file_goes_in_and_comes_out(run, tmp_path):
    content = os.urandom(3_000_000)
    (tmp_path / "photo.png").write_bytes(content)
    told = json.loads(
        run(
            "put", "user-uploads", "a/photo.png", "photo.png", "--metadata", "k=v=w", "--ttl", "2d", "--output", "json"
        ).stdout
    )
    assert told["size_bytes"] == len(content)
    head = json.loads(run("head", "user-uploads", "a/photo.png", "--output", "json").stdout)
    assert (head["content_type"], head["metadata"], head["etag"]) == ("image/png", {"k": "v=w"}, told["etag"])
    assert b"k=v=w" in run("head", "user-uploads", "a/photo.png").stdout
    assert run("get", "user-uploads", "a/photo.png", "back.png").stdout == b""
    assert (tmp_path / "back.png").read_bytes() == content
    run("get", "user-uploads", "a/photo.png")
    assert (tmp_path / "photo.png").read_bytes() == content
    assert (
        run("get", "user-uploads", "a/photo.png", "-", "--range-start", "5", "--range-end", "9").stdout == content[5:10]
    )


def test_standard_input_and_output_are_streams(run):
    content = os.urandom(2_500_000)
    run("put", "user-uploads", "piped", "-", stdin=content)
    assert run("get", "user-uploads", "piped", "-").stdout == content
    run("put", "user-uploads", "empty", "-")
    assert run("get", "user-uploads", "empty", "-").stdout == b""


def test_lists_in_text_and_json(run):
    for key in ("l/a", "l/b/c", "l/b/d", "l/with\nline"):
        run("put", "user-uploads", key, "-", "--ttl", "1h", stdin=b"x")
    lines = run("list", "user-uploads", "--prefix", "l/").stdout.decode().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["l/a", "l/b/c", "l/b/d", '"l/with\\nline"']
    found = json.loads(run("list", "user-uploads", "--prefix", "l/", "--delimiter", "/", "--output", "json").stdout)
    assert [row["key"] for row in found] == ["l/a", "l/b/", "l/with\nline"]
    assert json.loads(run("list", "user-uploads", "--prefix", "none", "--output", "json").stdout) == []
    soon = json.loads(run("list", "user-uploads", "--expiring-within", "2h", "--output", "json").stdout)
    assert {"l/a", "l/b/c"} <= {row["key"] for row in soon}
    assert run("list", "user-uploads", "--expiring-within", "1s").stdout == b""


def test_copy_delete_usage(run):
    run("put", "user-uploads", "c/one", "-", stdin=b"1")
    run("copy", "user-uploads", "c/one", "two", "--to-namespace", "build-artifacts")
    assert run("get", "build-artifacts", "two", "-").stdout == b"1"
    assert json.loads(run("usage", "build-artifacts", "--output", "json").stdout) == {"objects": 1, "size_bytes": 1}
    assert json.loads(run("delete", "user-uploads", "c/one", "--output", "json").stdout)["deleted"] is True
    assert json.loads(run("delete", "user-uploads", "c/one", "--output", "json").stdout)["deleted"] is False
    for key in ("c/x/1", "c/x/2", "c/xy"):
        run("put", "user-uploads", key, "-", stdin=b"1")
    run("delete", "user-uploads", "--prefix", "c/x/", "--yes")
    assert run("list", "user-uploads", "--prefix", "c/").stdout.decode().split("\t")[0] == "c/xy"


def test_presign(run):
    signed = json.loads(
        run("presign", "user-uploads", "p", "--method", "put", "--expires-in", "5m", "--output", "json").stdout
    )
    assert signed["url"].startswith("http://127.0.0.1:")
    assert "X-Amz-Expires=300" in signed["url"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("put", "user-uploads", "key"),
        ("put", "user-uploads", "key", "-", "--ttl", "soon"),
        ("put", "user-uploads", "key", "-", "--metadata", "novalue"),
        ("put", "user-uploads", "key", "-", "--output", "xml"),
        ("get", "user-uploads", "key", "file", "--range-start", "1"),
        ("delete", "user-uploads"),
        ("delete", "user-uploads", "key", "--prefix", "a/"),
        ("delete", "user-uploads", "--prefix", "a/"),
        ("list", "user-uploads", "--prefix", "a", "--expiring-within", "1d"),
        ("nonsense",),
    ],
)
def test_wrong_usage_exits_2(arguments, run):
    assert run(*arguments, code=2).stdout == b""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("get", "user-uploads", "absent", "-"), "OBJECT_NOT_FOUND"),
        (("head", "nowhere", "absent"), "NAMESPACE_NOT_FOUND"),
        (("get", "user-uploads", "absent", "made-here"), "OBJECT_NOT_FOUND"),
        (("put", "user-uploads", "key", "no-such-file"), "No such file"),
        (("put", "user-uploads", "key", "."), "is a folder"),
        (("put", "user-uploads", "key", "-", "--no-expiration"), "INVALID_ARGUMENT"),
        (("presign", "user-uploads", "key", "--expires-in", "2h"), "INVALID_ARGUMENT"),
        (("delete", "user-uploads", "--prefix", "no-folder", "--yes"), "INVALID_ARGUMENT"),
    ],
)
def test_a_failure_is_one_line_and_exits_1(arguments, says, run, tmp_path):
    ended = run(*arguments, code=1)
    assert ended.stdout == b""
    assert ended.stderr.decode().count("\n") == 1
    assert says in ended.stderr.decode()
    assert ("request " in ended.stderr.decode()) == says.isupper()
    assert list(tmp_path.iterdir()) == []


def test_no_server_is_one_line(run):
    began = time.monotonic()
    ended = run("usage", "user-uploads", code=1, env={"PRISM_ENDPOINT": "127.0.0.1:1"})
    assert ended.stderr.count(b"\n") == 1
    assert time.monotonic() - began < 20


def test_a_reader_that_leaves_ends_it_quietly(run, endpoint):
    run("put", "user-uploads", "long", "-", stdin=b"line\n" * 1_000_000)
    command = [sys.executable, "-m", "prism", "objectstore", "get", "user-uploads", "long", "-"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(endpoint)
    ) as process:
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 0


def test_interrupting_ends_it_quietly(endpoint):
    put = ["-m", "prism", "objectstore", "put", "user-uploads", "interrupted", "-"]
    # A shell's background job ignores Ctrl-C, and so does whatever it starts, unless that asks for the default again.
    heeding = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.executable, sys.argv[1:])"
    )
    command = [sys.executable, "-c", heeding, sys.executable, *put]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(endpoint)
    ) as process:
        process.stdin.write(b"x" * 8_000_000)
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        assert (process.wait(20), process.stderr.read()) == (130, b"")
    ended = prism("objectstore", "head", "user-uploads", "interrupted", env=endpoint)
    assert ended.returncode == 1


def test_a_terminal_sees_progress_and_a_pipe_does_not(run, endpoint, tmp_path):
    (tmp_path / "large").write_bytes(bytes(20_000_000))
    assert run("put", "user-uploads", "large", "large").stderr == b""
    mine, theirs = pty.openpty()
    command = [sys.executable, "-m", "prism", "objectstore", "put", "user-uploads", "large", "large"]
    env = environment({**endpoint, "TERM": "xterm", "COLUMNS": "100"})
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=env, cwd=tmp_path) as process:
        os.close(theirs)
        seen = _all(mine)
        assert process.wait(20) == 0
        assert process.stdout.read().startswith(b"large: 19.1 MiB")
    assert b"large" in seen
    mine, theirs = pty.openpty()
    command.append("--no-progress")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=env, cwd=tmp_path) as process:
        os.close(theirs)
        assert (_all(mine), process.wait(20)) == (b"", 0)


def test_an_interrupted_put_goes_on_and_leaves_nothing(run, endpoint, tmp_path):
    (tmp_path / "large").write_bytes(os.urandom(1_000_000))
    os.truncate(tmp_path / "large", 160_000_000)
    command = [
        sys.executable,
        "-m",
        "prism",
        "objectstore",
        "put",
        "user-uploads",
        "killed",
        "large",
        "--parallel",
        "1",
    ]
    with subprocess.Popen(command, env=environment(endpoint), cwd=tmp_path, stderr=subprocess.PIPE) as process:
        noted = until(lambda: next(iter(tmp_path.glob(".large.*.prism-upload")), None), "a state file")
        until(lambda: noted.read_bytes().count(b"crc32c") >= 1, "a part that is there")
        process.send_signal(signal.SIGINT)
        assert (process.wait(20), process.stderr.read()) == (130, b"")
    assert run("put", "user-uploads", "killed", "large").stderr == b""
    assert not noted.exists()
    run("get", "user-uploads", "killed", "back", "--parallel", "2", "--no-resume")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "large").read_bytes()


def test_a_pipe_is_stored_as_it_comes(run, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(b"through a pipe"))
    writer.start()
    run("put", "user-uploads", "piped", "pipe")
    writer.join()
    assert run("get", "user-uploads", "piped", "-").stdout == b"through a pipe"


def test_without_a_way_to_the_store_files_go_through_prism(tmp_path):
    (tmp_path / "in").write_bytes(b"content")
    nowhere = {"PRISM_SERVER__S3__PUBLIC_URL": "http://127.0.0.1:9"}
    with serving(tmp_path / "data", env=nowhere) as program:
        told = {"PRISM_ENDPOINT": program.grpc}
        for command in (("put", "user-uploads", "k", "in"), ("get", "user-uploads", "k", "out")):
            ended = prism("objectstore", *command, env=told, cwd=tmp_path)
            assert ended.returncode == 0
            assert b"the store cannot be reached from here" in ended.stderr
            assert b"127.0.0.1:9" not in ended.stderr
        assert (tmp_path / "out").read_bytes() == b"content"
        assert program.stop() == 0


def _all(descriptor):
    seen = b""
    try:
        while piece := os.read(descriptor, 65536):
            seen += piece
    except OSError:
        pass
    os.close(descriptor)
    return seen


def test_it_answers_at_once():
    """In processor time: what a command does not need is not loaded."""
    code = "import time; from prism.cli import command; print(time.process_time())"
    took = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) for _ in range(3)
    ]
    assert min(took) < 0.2
    assert prism("--version").stdout == b"prism 0.1.0\n"
    assert prism("--help").returncode == 0
    assert prism("nonsense").returncode == 2


def test_config_check(tmp_path):
    config = tmp_path / "prism.yaml"
    config.write_text(
        "namespaces:\n- {name: a, backend: minio, bucket: bbb, endpoint: 'localhost:9000',"
        " access_key: key, secret_key: hide-me}\n"
    )
    env = {"PRISM_SERVER__SHUTDOWN_SECONDS": "3"}
    ended = prism("config", "check", "--config", str(config), "--output", "json", env=env)
    assert ended.returncode == 0
    assert b"hide-me" not in ended.stdout
    rows = {row["at"]: (row["value"], row["source"]) for row in json.loads(ended.stdout)}
    assert rows["server.shutdown_seconds"][1] == "variable PRISM_SERVER__SHUTDOWN_SECONDS"
    assert rows["namespaces.a.bucket"] == ("bbb", f"file {config}")
    assert rows["namespaces.a.secret_key"][0] == "(hidden)"
    config.write_text("namespaces: []\nserverr: {}\n")
    ended = prism("config", "check", "--config", str(config))
    assert (ended.returncode, ended.stdout, ended.stderr.count(b"\n")) == (1, b"", 1)


def test_fsck_finds_and_repairs_what_nobody_names(tmp_path):
    data = tmp_path / "data"
    with serving(data) as program:
        env = {"PRISM_ENDPOINT": program.grpc}
        for key in ("kept", "lost"):
            assert prism("objectstore", "put", "user-uploads", key, "-", env=env, stdin=b"bytes").returncode == 0
        assert prism("fsck", "--data-dir", str(data)).returncode == 0
        assert program.stop() == 0
    blobs = data / "blobs" / "user-uploads"
    lost = next(blobs.glob("lost~*"))
    stray = blobs / f"stray~{lost.name.rpartition('~')[2]}"
    lost.rename(stray)
    os.utime(stray, (1_700_000_000, 1_700_000_000))
    ended = prism("fsck", "--data-dir", str(data), "--output", "json")
    assert ended.returncode == 1
    kinds = json.loads(ended.stdout)["user-uploads"]["kinds"]
    assert (kinds["unnamed"]["samples"], kinds["missing"]["samples"]) == ([stray.name], [lost.name])
    assert b"NOT CLEAN" in prism("fsck", "--data-dir", str(data)).stdout
    assert stray.exists()
    prism("fsck", "--data-dir", str(data), "--namespace", "user-uploads", "--repair")
    again = json.loads(prism("fsck", "--data-dir", str(data), "--output", "json").stdout)["user-uploads"]["kinds"]
    assert (again["unnamed"]["count"], again["condemned"]["count"], again["referenced"]["count"]) == (0, 1, 1)


def test_operators_tools_do_not_make_what_they_look_at(tmp_path):
    for command in (("fsck",), ("janitor", "--once")):
        ended = prism(*command, "--data-dir", str(tmp_path / "none"))
        assert (ended.returncode, ended.stderr.count(b"\n")) == (1, 1)
        assert not (tmp_path / "none").exists()
    assert prism("janitor").returncode == 2


def test_janitor_once_removes_what_was_deleted(tmp_path):
    data = tmp_path / "data"
    with serving(data, "--roles", "api") as program:
        env = {"PRISM_ENDPOINT": program.grpc}
        prism("objectstore", "put", "user-uploads", "key", "-", env=env, stdin=b"bytes")
        prism("objectstore", "delete", "user-uploads", "key", env=env)
        blobs = data / "blobs" / "user-uploads"
        assert list(blobs.glob("key~*"))
        report = json.loads(prism("janitor", "--once", "--data-dir", str(data), "--output", "json").stdout)
        assert report["namespaces"]["user-uploads"]["deleted"] == 1
        until(lambda: not list(blobs.glob("key~*")), "the bytes are gone")
