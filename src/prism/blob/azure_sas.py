"""Shared access signatures: URLs of one blob, signed with the account's key or with a key delegated to an identity.

The strings to sign are those of the service versions 2020-12-06 and 2026-04-06 (Azure Storage REST reference, "Create a
service SAS" and "Create a user delegation SAS"). A signature names a blob, permissions, an end and response headers; it
cannot insist on a method, a condition, a length, a type or a checksum. No start is signed, so clocks may differ.
"""

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

__all__ = ["BY_PARTS", "PLAIN", "AccountKey", "DelegatedKey", "SasKey", "blob_path", "signed_query"]

PLAIN = "2020-12-06"
"""The service version of signatures that read or write a blob in one request."""
BY_PARTS = "2026-04-06"
"""The first version in which `c`, create, is enough to put blocks."""
_DELEGATED_USER = "2025-07-05"
_REQUEST_FIELDS = "2026-04-06"


class AccountKey(msgspec.Struct, frozen=True):
    """The key of a whole storage account."""

    value: bytes

    def __repr__(self) -> str:
        return "AccountKey(***)"

    @property
    def text(self) -> str:
        """As the account's owner sees it. Never shown."""
        return base64.b64encode(self.value).decode()


class DelegatedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that the store gave an identity for a while. Its times are as the store wrote them."""

    object_id: str
    tenant_id: str
    starts: str
    expires: str
    service: str
    version: str
    value: bytes

    def __repr__(self) -> str:
        return f"DelegatedKey(***, expires={self.expires})"

    @property
    def expires_at(self) -> datetime:
        """When the store refuses what it signed."""
        return datetime.fromisoformat(self.expires)


SasKey = AccountKey | DelegatedKey


def blob_path(container: str, key: str) -> str:
    """Container and blob as a URL's path writes them, without a slash in front."""
    return f"{quote(container)}/{quote(key, safe='~/')}"


def signed_query(
    key: SasKey,
    account: str,
    container: str,
    blob: str,
    *,
    version: str,
    permissions: str,
    expires_at: datetime,
    https_only: bool,
    content_type: str = "",
    disposition: str = "",
) -> str:
    """The query that opens one blob; `permissions` in the order `racwd…` that the store asks for."""
    ends = expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    protocol = "https" if https_only else ""
    resource = f"/blob/{account}/{container}/{blob}"
    identity, reserved = _identity(key, version)
    who = [*identity.values()] or [""]
    lines = [permissions, "", ends, resource, *who, *reserved[0], "", protocol, version, "b", "", "", *reserved[1]]
    lines += ["", disposition, "", "", content_type]
    query = {"sv": version, "spr": protocol, "se": ends, "sr": "b", "sp": permissions, **identity}
    query |= {"rscd": disposition, "rsct": content_type, "sig": _signature(key.value, "\n".join(lines))}
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items() if value)


def _identity(key: SasKey, version: str) -> tuple[dict[str, str], tuple[list[str], list[str]]]:
    """A delegated key's own fields, and the empty lines for fields that Prism does not use: after them, and later."""
    if isinstance(key, AccountKey):
        return {}, ([], [])
    fields = {"skoid": key.object_id, "sktid": key.tenant_id, "skt": key.starts, "ske": key.expires}
    fields |= {"sks": key.service, "skv": key.version}
    after = [""] * (5 if version >= _DELEGATED_USER else 3)
    return fields, (after, [""] * 2 if version >= _REQUEST_FIELDS else [])


def _signature(key: bytes, text: str) -> str:
    return base64.b64encode(hmac.digest(key, text.encode(), hashlib.sha256)).decode()
