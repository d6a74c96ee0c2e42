"""Where a download lands: whole or not at all, resumed only as far as its bytes are what was noted."""

import os
import stat
from pathlib import Path

import google_crc32c
import pytest
from prism_sdk.checksums import crc32c_of_parts
from prism_sdk.landing import landing_in, target_of
from prism_sdk.resuming import StateFile

OF = {"etag": "e"}
RANGES = [(0, 3), (4, 7), (8, 9)]


def land(path: Path, content: bytes) -> None:
    with landing_in(target_of(path), "n/b/k", resume=True) as landing:
        landing.begin(OF, [(0, len(content) - 1)], len(content))
        landing.write(0, content)
        landing.finish()


def test_a_file_appears_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"older")
    target.chmod(0o640)
    with landing_in(target, "k", resume=True) as landing:
        landing.begin(OF, [(0, 2)], 3)
        landing.write(1, b"ew")
        landing.write(0, b"n")
        assert target.read_bytes() == b"older"
        landing.finish()
    assert (target.read_bytes(), stat.S_IMODE(target.stat().st_mode)) == (b"new", 0o640)
    assert list(tmp_path.iterdir()) == [target]


def test_what_is_discarded_leaves_what_was_there(tmp_path: Path) -> None:
    for resume in (True, False):
        with landing_in(tmp_path / "file", "k", resume=resume) as landing:
            landing.begin(OF, [(0, 3)], 4)
            landing.write(0, b"half")
            landing.discard()
        assert list(tmp_path.iterdir()) == []


def test_a_link_stays_and_the_file_behind_it_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    for content in (b"first", b"second"):
        land(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "file").read_bytes() == content


@pytest.mark.parametrize(("name", "error"), [("", IsADirectoryError), ("absent/file", FileNotFoundError)])
def test_an_error_names_the_path_that_was_given(tmp_path: Path, name: str, error: type[OSError]) -> None:
    path = tmp_path / name
    with pytest.raises(error) as caught:
        target_of(path)
    assert caught.value.filename == str(path)


def test_only_ranges_that_read_as_noted_are_kept(tmp_path: Path) -> None:
    crcs = [google_crc32c.value(part) for part in (b"abcd", b"efgh")]
    with landing_in(tmp_path / "file", "k", resume=True) as landing:
        landing.begin(OF, RANGES, 10)
        landing.write(0, b"abcdefgX")
        landing.note(0, crcs[0])
        landing.note(1, crcs[1])
        assert landing.keep()
    with landing_in(tmp_path / "file", "k", resume=True) as landing:
        landing.begin(OF, RANGES, 10)
        assert landing.finished == {0: crcs[0]}
        landing.keep()
    with landing_in(tmp_path / "file", "k", resume=True) as landing:
        landing.begin({"etag": "another"}, RANGES, 10)
        assert landing.finished == {}
        landing.discard()
    assert list(tmp_path.iterdir()) == []


def test_two_at_a_time_do_not_touch(tmp_path: Path) -> None:
    with landing_in(tmp_path / "file", "k", resume=True) as first:
        first.begin(OF, [(0, 4)], 5)
        with landing_in(tmp_path / "file", "k", resume=True) as second:
            second.begin(OF, [(0, 5)], 6)
            second.write(0, b"second")
            second.finish()
        first.write(0, b"first")
        first.finish()
    assert (tmp_path / "file").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_note_that_was_cut_short_is_passed_over(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "state")
    state.begin(OF, {"upload_id": "u"}, [{"part": 1}])
    state.note({"part": 2})
    state.close()
    state.note({"part": 3})
    with (tmp_path / "state").open("ab") as file:
        file.write(b'{"par')
    loaded = state.load(OF)
    assert loaded is not None
    assert (loaded[0]["upload_id"], [line["part"] for line in loaded[1]]) == ("u", [1, 2])
    assert state.load({"etag": "other"}) is None
    for damaged in (b"", b"{}\n", b"[1]\n", b"\xff\n", b"{\n"):
        (tmp_path / "state").write_bytes(damaged)
        assert state.load(OF) is None
    state.remove()
    assert state.load(OF) is None


@pytest.mark.parametrize("size", [1, 7, 999, 1000])
def test_the_crc_of_a_whole_follows_from_its_parts(size: int) -> None:
    content = os.urandom(1000)
    parts = [content[start : start + size] for start in range(0, 1000, size)]
    found = crc32c_of_parts((google_crc32c.value(part), len(part)) for part in [*parts, b""])
    assert found == google_crc32c.value(content)
