"""Keys sort as their tuples do, come back as they were, and spans hold exactly what they should."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prism.meta import tuples

TEXT = st.text(st.sampled_from("\x00\x01ab/\x7f\xff\u0100\ue000\uffff\U0001f600")) | st.text(max_size=30)
INTS = st.integers(-(2**80), 2**80) | st.sampled_from(
    [n + d for k in range(0, 73, 8) for n in (2**k, -(2**k)) for d in (-1, 0, 1)]
)
BYTES = st.binary(max_size=40) | st.lists(st.sampled_from([b"\x00", b"\xff", b"\x0c", b"\x0d"]), max_size=40).map(
    b"".join
)
ELEMENTS = TEXT | INTS | BYTES | st.booleans()
KEYS = st.lists(ELEMENTS, max_size=5).map(tuple)


def rank(key: tuples.Key) -> list[Any]:
    """What the order should be: by type first, then by value."""
    order = {bytes: 0, str: 1, int: 2, bool: 3}
    return [(order[type(element)], element) for element in key]


@given(KEYS)
@example(())
@example(("",))
@example(("a", "b\x00", ""))
@example(("\x00\x02",))
@example(("a", b"\x02b\x00"))
def test_a_key_comes_back_as_it_was(key: tuples.Key) -> None:
    found = tuples.unpack(tuples.pack(key))
    assert found == key
    assert [type(element) for element in found] == [type(element) for element in key]


@given(KEYS, KEYS)
@example(("a",), ("a\x00",))
@example(("a", 1), ("a\x00",))
@example((b"x" * 12,), (b"x" * 13,))
def test_encoded_keys_sort_as_the_tuples_do(one: tuples.Key, other: tuples.Key) -> None:
    assert (tuples.pack(one) < tuples.pack(other)) == (rank(one) < rank(other))


@given(KEYS, KEYS)
def test_a_span_holds_exactly_what_extends_the_tuple(prefix: tuples.Key, key: tuples.Key) -> None:
    start, end = tuples.span(prefix)
    for candidate in (key, prefix, prefix + key):
        extends = len(candidate) > len(prefix) and rank(candidate[: len(prefix)]) == rank(prefix)
        assert (start <= tuples.pack(candidate) < end) == extends


@given(KEYS, TEXT, KEYS, TEXT)
@example(("p",), "a", (), "a\x00")
@example(("p",), "a\x00", (), "a")
@example(("p",), "", (), "")
def test_a_text_span_holds_exactly_the_strings_that_begin_so(
    prefix: tuples.Key, text: str, rest: tuples.Key, other: str
) -> None:
    start, end = tuples.span_text(prefix, text)
    for element in (other, text, text + other):
        inside = start <= tuples.pack((*prefix, element, *rest)) < end
        assert inside == element.startswith(text)
    assert not start <= tuples.pack(prefix) < end
    for stranger in (b"", 0, True, text.encode()):
        assert not start <= tuples.pack((*prefix, stranger)) < end


@given(KEYS, KEYS)
def test_after_lies_above_the_key_and_its_extensions_and_below_the_next(key: tuples.Key, other: tuples.Key) -> None:
    bound = tuples.after(key)
    assert tuples.pack(key) < bound
    assert tuples.pack(key + other) < bound
    if rank(other) > rank(key) and rank(other[: len(key)]) != rank(key):
        assert bound < tuples.pack(other)


@given(st.binary(max_size=40))
@example(b"\x1d")
@example(b"\x0b")
@example(b"\x02")
def test_bytes_that_are_no_key_are_refused_or_are_one(raw: bytes) -> None:
    try:
        key = tuples.unpack(raw)
    except ValueError:
        return
    assert tuples.unpack(tuples.pack(key)) == key


@pytest.mark.parametrize("element", [None, 1.5, ("nested",), bytearray(b"x")])
def test_other_types_are_refused(element: Any) -> None:
    with pytest.raises(TypeError):
        tuples.pack(("a", element))


def test_what_has_no_encoding_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        tuples.pack(("a", "\ud800"))
    with pytest.raises(ValueError, match="255 bytes"):
        tuples.pack((1 << 8 * 255,))


def test_a_stamp_stands_in_a_key_as_it_is() -> None:
    stamp = bytes(range(tuples.STAMP_BYTES))
    assert tuples.pack(("ns", "x", stamp)) == tuples.pack(("ns", "x")) + tuples.STAMP_OPEN + stamp + tuples.STAMP_CLOSE
