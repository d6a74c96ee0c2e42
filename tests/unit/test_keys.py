"""Keys: what is legal, which folders take a key along, and where bytes lie, there and back."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prism.blob import check_physical
from prism.errors import ErrorCode, PrismError
from prism.keys import OWNER, Layout, ancestors, check_bucket, check_folder, check_key, check_prefix


def _cut(text: str) -> str:
    return text.encode()[:1024].decode(errors="ignore")


VERSION = "0123456789abcdef0123456789"
HOSTILE = [
    "a", "a/b", "a/", "/", "//", "///", "/x", "a//b", "..", ".", "../x", "./x", "a/../b", "a/./b", "a./b",
    "a../b", "...", ".../x", "~", "~x", "~owner", "~staging/x", "~own/x", "~other/a", "a~v", f"a~{VERSION}",
    f"a~{VERSION}/x", f"~{VERSION}", "~~x", "a~-/b", "~_", "~_/x", "~_7E", "x~_2E/y", "\r\n", "a\tb", "\x7f",
    "\x85", "\\", "a\\b", "%2e%2e", "#?%+&=", " ", " a ", "é", "e\u0301", "A", "🙂/🙂", "\ufffe", "\uffff/x",
    "é" * 300, "é" * 512, "x" * 1024, "x" * 500 + "/y", "a/" * 512, "/" * 1024, "." * 1024, "~" * 1024,
    "\x01" * 1024, "x" * 900 + "/" + "y" * 100, "x" * 1000 + "/" + "y" * 23, "🙂" * 256,
]  # fmt: skip
_CHARS = st.one_of(
    st.sampled_from("/.~_-ab\\%A\x01é\u0301🙂0E=+"), st.characters(codec="utf-8", exclude_characters="\x00")
)
_SHORT = st.text(_CHARS, min_size=1, max_size=60)
_LONG = st.builds(
    lambda text, times: (text * times).encode()[:1024].decode(errors="ignore"), _SHORT, st.integers(1, 400)
)
KEYS = st.one_of(st.sampled_from(HOSTILE), _SHORT, _LONG)
BUCKETS = st.sampled_from(["own", "other", "owner", "staging", "a.b-c", "0" * 63])
VERSIONS = st.sampled_from([VERSION, "z" * 20, "b-" + "0" * 38])
LAYOUTS = st.sampled_from([Layout("own"), Layout("own", "team/blobs/")])


@pytest.mark.parametrize("key", HOSTILE)
def test_every_legal_key_is_accepted(key: str) -> None:
    check_key(key)
    check_prefix(key)


@pytest.mark.parametrize("key", ["", "\x00", "a\x00b", "x" * 1025, "é" * 513, "\ud800", "a\udfffb"])
def test_illegal_keys_are_refused(key: str) -> None:
    for check in (check_key, check_folder, *([check_prefix] if key else [])):
        with pytest.raises(PrismError) as raised:
            check(key)
        assert raised.value.code is ErrorCode.INVALID_ARGUMENT


def test_an_empty_prefix_is_no_folder() -> None:
    check_prefix("")
    check_folder("/")
    check_folder("a/")
    with pytest.raises(PrismError):
        check_folder("a")


@pytest.mark.parametrize("name", ["abc", "a.b-c", "0" * 63])
def test_bucket_names(name: str) -> None:
    check_bucket(name)


@pytest.mark.parametrize("name", ["", "ab", "0" * 64, "Abc", "-ab", "ab-", ".ab", "a_b", "abc\n", "a/b", "~ab", "äbc"])
def test_bad_bucket_names(name: str) -> None:
    with pytest.raises(PrismError) as raised:
        check_bucket(name)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT


@given(KEYS, KEYS)
def test_a_folder_is_an_ancestor_of_exactly_the_keys_that_begin_with_it(key: str, text: str) -> None:
    folder = text[: text.rfind("/") + 1] or "a/"
    assert (folder in ancestors(key)) == key.startswith(folder)
    assert all(above.endswith("/") and key.startswith(above) for above in ancestors(key))


@given(LAYOUTS, st.booleans(), BUCKETS, KEYS, VERSIONS)
@example(Layout("own"), False, "own", f"a~{VERSION}/x", VERSION)
def test_a_physical_key_is_fit_for_every_store_and_leads_back(
    layout: Layout, staging: bool, bucket: str, key: str, version_id: str
) -> None:
    physical = (layout.staging if staging else layout.physical)(bucket, key, version_id)
    check_physical(physical)
    assert len(physical.encode()) <= 1024
    assert all(len(segment.encode()) <= 252 for segment in physical.split("/"))
    assert "~=" not in physical
    assert "\\" not in physical
    parsed = layout.parse(physical)
    assert parsed is not None
    assert (parsed.bucket, parsed.version_id, parsed.staging) == (bucket, version_id, staging)
    assert layout.place(parsed, key) == physical
    if parsed.key is None:
        assert len(key.encode()) > 250
    else:
        assert parsed.key == key


@given(LAYOUTS, st.lists(st.tuples(BUCKETS, KEYS, VERSIONS), min_size=1, max_size=6, unique=True))
def test_no_two_uploads_share_a_key_and_none_is_a_folder_of_another(
    layout: Layout, uploads: list[tuple[str, str, str]]
) -> None:
    keys = [lay(*upload) for upload in uploads for lay in (layout.physical, layout.staging)]
    for one, other in itertools.permutations([*keys, layout.owner], 2):
        assert one != other
        assert not other.startswith(one + "/")


def test_hostile_keys_lie_beside_each_other() -> None:
    layout = Layout("own")
    keys = {lay("own", key, VERSION) for key in HOSTILE for lay in (layout.physical, layout.staging)}
    assert len(keys) == 2 * len(HOSTILE)
    assert not [key for key in keys for folder in ancestors(key) if folder[:-1] in keys]


@given(LAYOUTS, BUCKETS, BUCKETS, KEYS, KEYS)
def test_a_folders_prefix_holds_what_is_below_it_and_nothing_else(
    layout: Layout, bucket: str, other_bucket: str, text: str, key: str
) -> None:
    folder = text[: text.rfind("/") + 1] or "a/"
    prefix = layout.folder_prefix(bucket, folder)
    below = _cut(folder + key)
    assert layout.physical(bucket, below, VERSION).startswith(prefix)
    staged = layout.folder_prefix(bucket, folder, staging=True)
    assert layout.staging(bucket, below, VERSION).startswith(staged)
    assert not layout.staging(bucket, below, VERSION).startswith(prefix)
    exact = prefix.endswith("/")
    if exact and not (bucket == other_bucket and key.startswith(folder)):
        assert not layout.physical(other_bucket, key, VERSION).startswith(prefix)
    assert exact or len(folder.encode()) > 200


@pytest.mark.parametrize(
    "foreign",
    [
        "", "a", OWNER, "photo.jpg", "a~b", "backup~2026", "a~" + "A" * 26, f"a~_7e~{VERSION}",
        f"a~_61~{VERSION}", f"~{VERSION}", f"a//b~{VERSION}", f"../b~{VERSION}", f"a./b~{VERSION}",
        f"a~-/b~{VERSION}", f"a~~{'0' * 26}~{VERSION}", f"~own/a~{VERSION}", f"~owner/a~{VERSION}",
        f"~_other/a~{VERSION}", f"a~{VERSION}\n", f"a~_FF~{VERSION}", f"~staging/~own/a~{VERSION}",
        f"~staging/~staging/a~{VERSION}", f"~staging/~{VERSION}", f"x/~staging/a~{VERSION}", f"x~=prism/a~{VERSION}",
    ],
)  # fmt: skip
def test_foreign_keys_are_told_apart(foreign: str) -> None:
    assert Layout("own").parse(foreign) is None


def test_another_prefix_is_foreign() -> None:
    assert Layout("own", "team/").parse(f"a~{VERSION}") is None
    assert Layout("own").parse(Layout("own", "team/").physical("own", "a", VERSION)) == (
        "own",
        "team/a",
        VERSION,
        False,
    )


def test_a_person_can_read_it() -> None:
    layout = Layout("own")
    assert layout.physical("own", "run1/images/cat.png", VERSION) == f"run1/images/cat.png~{VERSION}"
    assert layout.physical("other", "ä b/c", VERSION) == f"~other/ä b/c~{VERSION}"
    assert layout.staging("own", "cat.png", VERSION) == f"~staging/cat.png~{VERSION}"
    assert layout.staging("other", "cat.png", VERSION) == f"~staging/~other/cat.png~{VERSION}"


@pytest.mark.parametrize("version_id", ["", "v1", "A" * 26, "-" * 26, "a" * 41, "a/" * 13, "a~" * 13, VERSION + "\n"])
def test_a_version_id_that_could_not_be_parsed_back_is_refused(version_id: str) -> None:
    with pytest.raises(ValueError, match="version id"):
        Layout("own").physical("own", "a", version_id)


@given(st.sampled_from(HOSTILE), st.sampled_from(["own", "other"]), st.sampled_from(["", "deep/er/"]))
def test_nothing_that_any_deployment_laid_out_is_adopted(key: str, bucket: str, prefix: str) -> None:
    whose = Layout("own", prefix)
    for ours in (Layout("own"), Layout("mine"), Layout("other", prefix)):
        for physical in (whose.physical(bucket, key, VERSION), whose.staging(bucket, key, VERSION), whose.owner):
            assert ours.adoptable(physical) is None


@pytest.mark.parametrize("foreign", ["holiday.jpg", "a//b", "/x", "a/", "a~b", "x~1.bak", "ü☃"])
def test_foreign_bytes_keep_their_name(foreign: str) -> None:
    assert Layout("own").adoptable(foreign) == foreign
    assert Layout("own", "in/here/").adoptable(f"in/here/{foreign}") == foreign
