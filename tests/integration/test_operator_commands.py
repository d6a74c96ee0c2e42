"""The commands of operators as they type them: what they print, how they end, and what bad input makes of them."""

import asyncio
import json
import os
import shutil

import pytest
from typer.testing import CliRunner

from prism.app import open_app
from prism.cli import command
from prism.model import Caller, ObjectRef, PutOptions
from prism.testing.running import config_for


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def run(data):
    """Run `prism` on the data folder; the finished command."""

    def run(*arguments, code=0, where=data):
        ended = CliRunner().invoke(command, [*arguments, "--data-dir", str(where)])
        assert ended.exit_code == code, ended.output
        if code == 1 and not ended.stdout:
            assert ended.stderr.count("\n") == 1
            assert ended.stderr.startswith("prism: ")
        return ended

    return run


@pytest.fixture
def told(run):
    return lambda *arguments, **more: json.loads(run(*arguments, "--output", "json", **more).stdout)


def put(data, contents, delete=()):
    """A deployment that stores these, in their order, and deletes those."""

    async def work():
        async with open_app(config_for(data, memory=False)) as app:
            caller = Caller(principal=app.services.access.anonymous(), request_id="r", api="test")
            for key, content in contents:
                await app.services.objects.put(caller, ObjectRef("user-uploads", "", key), _once(content), PutOptions())
            for key in delete:
                await app.services.objects.delete(caller, ObjectRef("user-uploads", "", key))

    asyncio.run(work())


async def _once(content):
    yield content


def lose_catalog(data):
    for path in data.glob("catalog.sqlite*"):
        path.unlink()


def kinds(report):
    return {kind: found["count"] for kind, found in report["kinds"].items() if found["count"]}


def test_a_lost_catalog_comes_back(data, run, told):
    put(data, [("a", b"one"), ("a", b"two"), ("gone", b"gone")], delete=["gone"])
    (data / "blobs" / "user-uploads" / "lay there").write_text("before")
    lose_catalog(data)
    refused = run("fsck", code=1).stderr
    owner = refused.split("(")[1].split(")")[0]
    assert f"say --take-over {owner}" in run("catalog", "rebuild", code=1).stderr
    assert "nothing changed" in run("catalog", "rebuild", "--take-over", "f" * 32, code=1).stderr
    dry = told("catalog", "rebuild", "--dry-run")["user-uploads"]
    said = run("catalog", "rebuild", "--take-over", owner).stdout
    assert kinds(dry) == {"objects": 2, "older": 1, "reappeared": 1, "foreign": 1}
    assert dry["kinds"]["reappeared"]["samples"][0].startswith("gone~"), "the audit record knows what was deleted"
    assert "user-uploads: 2 objects (7 B), 1 reappeared (4 B), 1 older (3 B), 1 foreign (6 B)" in said
    assert "  reappeared\tgone~" in said
    assert "prism objectstore import" in said
    assert "--add" in run("catalog", "rebuild", code=1).stderr
    assert kinds(told("catalog", "rebuild", "--add", "--namespace", "user-uploads")["user-uploads"])["known"] == 2
    assert kinds(told("objectstore", "import", "user-uploads", "--dry-run")) == {"adopted": 1, "prism": 3}
    assert "user-uploads: 1 adopted (6 B), 3 prism" in run("objectstore", "import", "user-uploads").stdout
    assert "referenced" in run("fsck").stdout


def test_export_and_restore(data, run, told, tmp_path):
    put(data, [("a", b"a"), ("b", b"b")])
    backup = str(tmp_path / "backup.gz")
    exported = told("catalog", "export", backup)
    assert exported["namespaces"]["user-uploads"] == {"objects": 2}
    assert "exists" in run("catalog", "export", backup, code=1).stderr
    assert "not empty" in run("catalog", "restore", backup, code=1).stderr
    lose_catalog(data)
    assert "no catalog" in run("catalog", "export", str(tmp_path / "other"), code=1).stderr
    (tmp_path / "cut.gz").write_bytes((tmp_path / "backup.gz").read_bytes()[:-20])
    for name in ("cut.gz", "data/audit.jsonl"):
        assert "not whole" in run("catalog", "restore", str(tmp_path / name), code=1).stderr
    assert "No such file" in run("catalog", "restore", str(tmp_path / "none.gz"), code=1).stderr
    assert "directory" in run("catalog", "restore", str(tmp_path), code=1).stderr.lower()
    assert "user-uploads: 2 objects" in run("catalog", "restore", backup).stdout
    assert "2 referenced (2 B)" in run("fsck").stdout


def test_what_is_written_after_a_backup_is_unproven_and_said_so(data, run, tmp_path):
    put(data, [("a", b"a")])
    run("catalog", "export", str(tmp_path / "backup.gz"))
    put(data, [("later", b"later")])
    lose_catalog(data)
    run("catalog", "restore", str(tmp_path / "backup.gz"))
    blobs = data / "blobs" / "user-uploads"
    os.utime(next(blobs.glob("later~*")), (1_700_000_000, 1_700_000_000))
    said = run("fsck", "--repair", code=1).stdout
    assert "unproven\tlater~" in said
    assert "prism catalog rebuild --add" in said
    assert "1 known (1 B)" in run("catalog", "rebuild", "--add").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("objectstore", "import", "nowhere"), "no namespace"),
        (("objectstore", "import", "user-uploads", "--bucket", "none-such"), "no bucket"),
        (("catalog", "rebuild", "--namespace", "nowhere"), "no namespace"),
        (("fsck", "--namespace", "nowhere"), "no namespace"),
    ],
)
def test_what_is_not_there_is_one_line(arguments, says, data, run):
    put(data, [])
    assert says in run(*arguments, code=1).stderr


@pytest.mark.parametrize("expires", ["soon", "0s"])
def test_no_lifetime_is_wrong_usage(expires, run):
    run("objectstore", "import", "user-uploads", "--expires", expires, code=2)


def test_looking_makes_no_data_folder(run, tmp_path):
    for arguments in (("objectstore", "import", "user-uploads"), ("catalog", "export", "file")):
        assert "no data folder" in run(*arguments, code=1, where=tmp_path / "none").stderr
        assert not (tmp_path / "none").exists()


def test_a_store_that_cannot_be_read_is_one_line(data, run):
    put(data, [("a", b"a")])
    blobs = data / "blobs" / "user-uploads"
    shutil.rmtree(blobs)
    blobs.write_text("a file, not a folder")
    for arguments in (("fsck",), ("objectstore", "import", "user-uploads"), ("catalog", "rebuild", "--add")):
        run(*arguments, code=1)
