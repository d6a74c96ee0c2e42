"""The keys that a bucket's requests and URLs are signed with: one source for all of them.

They are given in the configuration, stand in a credentials file that is read again when it changes, or come from the
cloud's default chain (variables, shared files, machine or pod role), which renews them before they expire. Asking again
is cheap until `_FRESH_SECONDS` have passed. Printing shows no secret.
"""

import configparser
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from ..config import S3Store
from ..errors import ErrorCode, PrismError

__all__ = ["Credentials", "Keys", "credentials_of"]

_FRESH_SECONDS = 15.0


class Keys(msgspec.Struct, frozen=True):
    """What signs. `token` belongs to temporary keys."""

    access_key: str
    secret_key: str
    token: str | None = None

    def __repr__(self) -> str:
        return f"Keys({self.access_key!r}, ***)"


class Credentials:
    """The keys of one bucket as they are now. Safe to ask from any thread; may wait for the cloud's answer."""

    refresh_threshold = timedelta(0)  # obstore's word: ask again when what it holds has expired, and not minutes before

    def __init__(self, read: Callable[[], Keys]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._keys: Keys | None = None
        self._failed: PrismError | None = None
        self._read_at = -_FRESH_SECONDS

    def __repr__(self) -> str:
        return "Credentials(***)"

    @property
    def fresh(self) -> Keys | None:
        """The keys, if they can be had without waiting."""
        return self._keys if time.monotonic() < self._read_at + _FRESH_SECONDS else None

    def current(self) -> Keys:
        """The keys; STORE_DOWN when there are none at the moment."""
        with self._lock:
            if time.monotonic() >= self._read_at + _FRESH_SECONDS:
                self._renew()
            if self._keys is None:
                assert self._failed is not None
                raise PrismError(self._failed.code, self._failed.message)
            return self._keys

    def _renew(self) -> None:
        try:
            self._keys = self._read()
        except PrismError as error:
            self._keys, self._failed = None, error
        self._read_at = time.monotonic()

    def __call__(self) -> dict[str, Any]:
        """The keys as obstore asks for them."""
        keys = self.current()
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token,
            "expires_at": datetime.now(UTC) + timedelta(seconds=_FRESH_SECONDS),
        }

    def load_credentials(self) -> "_Live":
        """The keys as botocore asks for them: looked up for each request."""
        return _Live(self)


class _Live:
    """botocore's credentials, in its words."""

    method = "prism"

    def __init__(self, source: Credentials) -> None:
        self._source = source

    def get_frozen_credentials(self) -> Any:
        from botocore.credentials import ReadOnlyCredentials

        keys = self._source.current()
        return ReadOnlyCredentials(keys.access_key, keys.secret_key, keys.token)

    def get_deferred_property(self, name: str) -> Callable[[], None]:
        """Nothing beside the keys is known."""
        return lambda: None


def credentials_of(store: S3Store) -> Credentials:
    """The source that the configuration names. Nothing is read yet."""
    if store.access_key is not None and store.secret_key is not None:
        token = store.session_token.reveal() if store.session_token is not None else None
        keys = Keys(store.access_key, store.secret_key.reveal(), token)
        return Credentials(lambda: keys)
    if store.credentials_file is not None:
        return Credentials(_File(store.credentials_file, store.profile or "default").read)
    return Credentials(_Chain(store.bucket, store.profile).read)


class _File:
    """A shared credentials file."""

    def __init__(self, path: Path, profile: str) -> None:
        self._path = path
        self._profile = profile
        self._seen: tuple[int, int, int] | None = None
        self._keys: Keys | None = None

    def read(self) -> Keys:
        """The profile's keys. Those read last are kept while the file is being replaced."""
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if self._keys is None or seen != self._seen:
                self._keys = self._parse(self._path.read_text("utf-8"))
                self._seen = seen
        except (OSError, UnicodeDecodeError, configparser.Error, KeyError) as error:
            if self._keys is None:
                what = f"has no readable keys for the profile {self._profile!r}"
                raise PrismError(ErrorCode.STORE_DOWN, f"the credentials file {str(self._path)!r} {what}") from error
        return self._keys

    def _parse(self, text: str) -> Keys:
        parser = configparser.RawConfigParser()
        parser.read_string(text)
        section = parser[self._profile]
        token = section.get("aws_session_token") or None
        return Keys(section["aws_access_key_id"], section["aws_secret_access_key"], token)


class _Chain:
    """The cloud's default chain, opened when it is first asked."""

    def __init__(self, bucket: str, profile: str | None) -> None:
        self._bucket = bucket
        self._profile = profile
        self._found: Any = None

    def read(self) -> Keys:
        """What the chain says now; it renews temporary keys well before they expire."""
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session

        try:
            if self._found is None:
                self._found = Session(profile=self._profile).get_credentials()
            frozen = self._found.get_frozen_credentials() if self._found is not None else None
        except BotoCoreError as error:
            raise self._none() from error
        if frozen is None or not frozen.access_key:
            raise self._none()
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)

    def _none(self) -> PrismError:
        what = "give access_key and secret_key, a credentials_file, or a role to this machine"
        return PrismError(ErrorCode.STORE_DOWN, f"there are no credentials for the bucket {self._bucket!r}: {what}")
