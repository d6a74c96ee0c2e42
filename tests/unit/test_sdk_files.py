"""Where a download lands: whole or not at all, and never in place of what is no file."""

import os
import stat
import threading
from pathlib import Path

import pytest
from prism_sdk.files import landing


def test_a_file_appears_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    target.chmod(0o640)
    with landing(target) as file:
        file.write(b"new")
        assert target.read_bytes() == b"old"
    assert (target.read_bytes(), stat.S_IMODE(target.stat().st_mode)) == (b"new", 0o640)


def test_what_fails_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    def fail_half_way() -> None:
        with landing(tmp_path / "file") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_written_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with landing(pipe) as file:
        file.write(b"through")
    reader.join(10)
    assert read == [b"through"]
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_link_stays_and_the_file_behind_it_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    for content in (b"first", b"second"):
        with landing(tmp_path / "link") as file:
            file.write(content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "file").read_bytes() == content


@pytest.mark.parametrize(("name", "error"), [("", IsADirectoryError), ("absent/file", FileNotFoundError)])
def test_an_error_names_the_path_that_was_given(tmp_path: Path, name: str, error: type[OSError]) -> None:
    path = tmp_path / name
    with pytest.raises(error) as caught, landing(path):
        pass
    assert caught.value.filename == str(path)
