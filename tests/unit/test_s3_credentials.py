"""Where the keys of a bucket come from, and that none of them is ever shown."""

from pathlib import Path

import pytest

from prism.blob.s3_credentials import Credentials, Keys, credentials_of
from prism.config import S3Store
from prism.config.settings import Secret
from prism.errors import ErrorCode, PrismError


def test_given_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    store = S3Store(bucket="bucket", access_key="a", secret_key=Secret("s3cret"), session_token=Secret("t0ken"))
    source = credentials_of(store)
    assert source.fresh is None
    assert source.current() == Keys("a", "s3cret", "t0ken")
    assert source.fresh == source.current()
    assert "s3cret" not in f"{source!r}{source.current()!r}{source.load_credentials()!r}"


def test_a_profile_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text(
        "[default]\naws_access_key_id=d\naws_secret_access_key=ds\n"
        "[p]\naws_access_key_id = a\naws_secret_access_key = s%3\naws_session_token = t\n"
    )
    assert credentials_of(S3Store(bucket="bucket", credentials_file=file)).current() == Keys("d", "ds")
    assert credentials_of(S3Store(bucket="bucket", credentials_file=file, profile="p")).current() == Keys(
        "a", "s%3", "t"
    )


@pytest.mark.parametrize("content", [None, "", "[other]\n", "[default]\naws_access_key_id=a\n", "no ini\x00"])
def test_a_file_without_keys_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "credentials"
    if content is not None:
        file.write_text(content)
    source = credentials_of(S3Store(bucket="bucket", credentials_file=file))
    for _ in range(2):
        with pytest.raises(PrismError, match="credentials file") as raised:
            source.current()
        assert raised.value.code is ErrorCode.STORE_DOWN


def test_keys_read_last_outlive_a_file_that_is_being_replaced(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id=a\naws_secret_access_key=s\n")
    source = credentials_of(S3Store(bucket="bucket", credentials_file=file))
    read = source._read
    first = read()
    file.write_text("[def")
    assert read() == first
    file.write_text("[default]\naws_access_key_id=b\naws_secret_access_key=s2\n")
    assert read() == Keys("b", "s2")


def test_the_chain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    with pytest.raises(PrismError, match="no credentials for the bucket 'bucket'"):
        credentials_of(S3Store(bucket="bucket")).current()
    with pytest.raises(PrismError, match="no credentials"):
        credentials_of(S3Store(bucket="bucket", profile="unknown")).current()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t")
    assert credentials_of(S3Store(bucket="bucket")).current() == Keys("a", "s", "t")


def test_obstore_and_botocore_are_given_the_same() -> None:
    source = Credentials(lambda: Keys("a", "s", "t"))
    given = source()
    frozen = source.load_credentials().get_frozen_credentials()
    assert (given["access_key_id"], given["secret_access_key"], given["token"]) == tuple(frozen)[:3]
