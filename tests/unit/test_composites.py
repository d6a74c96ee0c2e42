"""What is known of a whole from its parts is what its bytes say."""

import hashlib

import google_crc32c
from hypothesis import given
from hypothesis import strategies as st

from prism.composites import crc32c_of_parts, etag_of_parts
from prism.digests import crc32c_text


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_the_crc_of_parts_is_that_of_the_whole(parts: list[bytes]) -> None:
    known = [(crc32c_text(google_crc32c.value(part)), len(part)) for part in parts]
    assert crc32c_of_parts(known) == crc32c_text(google_crc32c.value(b"".join(parts)))


def test_sizes_of_real_parts() -> None:
    parts = [bytes([number]) * size for number, size in enumerate((8 << 20, 8 << 20, 5 << 20, 1))]
    known = [(crc32c_text(google_crc32c.value(part)), len(part)) for part in parts]
    assert crc32c_of_parts(known) == crc32c_text(google_crc32c.value(b"".join(parts)))


def test_the_etag_is_that_of_s3() -> None:
    parts = [b"one", b"two"]
    digests = [hashlib.md5(part, usedforsecurity=False) for part in parts]
    expected = hashlib.md5(b"".join(one.digest() for one in digests), usedforsecurity=False).hexdigest()
    assert etag_of_parts("v", [one.hexdigest() for one in digests]) == f"{expected}-2"


def test_without_md5_the_etag_names_upload_and_parts() -> None:
    one = etag_of_parts("v", ["a", "b"])
    assert one.endswith("-2")
    assert one == etag_of_parts("v", ["a", "b"])
    assert len({one, etag_of_parts("w", ["a", "b"]), etag_of_parts("v", ["a", "c"])}) == 3
