"""The objects of one bucket by the JSON API: what it says of a key, deletions, listings, copies, compositions.

A pinned generation is named in the request itself (`generation`, `sourceGeneration`): where other bytes lie under the
key, it is absent, and a look at the key tells that apart from bytes that are gone.
"""

import base64
import binascii
import urllib.parse
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from .driver import AlreadyExists, BlobEntry, BlobInfo, EtagMismatch, NotFound, Stored, WriteOptions
from .gcs_http import Http
from .gcs_upload import described
from .obstores import plain_metadata

__all__ = ["MOST_COMPOSED", "Objects", "entry_of", "hexadecimal", "is_generation"]

MOST_COMPOSED = 32
"""Sources of one composition."""
_LISTED = "nextPageToken,items(name,size,generation,timeCreated,crc32c)"
_MOST_LISTED = 1000


class Objects:
    """What the driver and its uploads in parts ask of the bucket."""

    def __init__(self, http: Http, kms_key: str | None) -> None:
        self.http = http
        self.kms_key = kms_key

    async def changed(self, key: str) -> Exception:
        """Why a pinned generation is not there: other bytes lie there now, or none."""
        try:
            await self.head(key)
        except NotFound as error:
            return error
        return EtagMismatch(key)

    async def head(self, key: str) -> BlobInfo:
        """The store's resource of the key."""
        answer = await self.http.ask("GET", self.path(key), {})
        if answer.status == 404:
            await self.http.check_bucket()
        if answer.status != 200:
            raise self.http.refusal(answer)
        return _info(answer.resource)

    async def delete(self, key: str, query: Mapping[str, str]) -> bool:
        """False when there is nothing of the kind."""
        answer = await self.http.ask("DELETE", self.path(key), query)
        if answer.status == 404:
            await self.http.check_bucket()
        if answer.status in {404, 412}:
            return False
        if answer.status not in {200, 204}:
            raise self.http.refusal(answer)
        return True

    async def page(
        self, prefix: str, start: str, token: str | None, limit: int
    ) -> tuple[Sequence[Mapping[str, Any]], str | None]:
        """At most `limit` resources from `start` on, and how to go on; None at the end."""
        query = {
            "prefix": prefix,
            "startOffset": start or None,
            "pageToken": token,
            "maxResults": min(limit, _MOST_LISTED),
            "fields": _LISTED,
        }
        answer = await self.http.ask("GET", f"/storage/v1/b/{self.http.bucket}/o", query)
        if answer.status != 200:
            raise self.http.refusal(answer, "NoSuchBucket")
        listed = answer.resource
        return listed.get("items") or [], listed.get("nextPageToken") or None

    async def all(self, prefix: str) -> AsyncIterator[Mapping[str, Any]]:
        """The resource of every key with this prefix."""
        token = None
        while True:
            items, token = await self.page(prefix, "", token, _MOST_LISTED)
            for item in items:
                yield item
            if token is None:
                return

    async def copy(self, source: str, if_match: str, key: str, options: WriteOptions) -> Stored:
        """Rewrite one generation, in as many steps as the store wants; type and metadata are the new ones."""
        if not is_generation(if_match):
            raise await self.changed(source)
        if options.gate is not None:
            await options.gate()
        path = f"{self.path(source)}/rewriteTo{self.path(key, '')}"
        query = {"sourceGeneration": if_match, "ifGenerationMatch": "0", "destinationKmsKeyName": self.kms_key}
        done, token = -1, None
        while True:
            answer = await self.http.ask_json("POST", path, {**query, "rewriteToken": token}, described(options))
            if answer.status == 412:
                raise AlreadyExists(key)
            if answer.status == 404:
                raise await self.changed(source)
            if answer.status != 200:
                raise self.http.refusal(answer)
            step = answer.resource
            if step.get("done"):
                return Stored(step["resource"]["generation"], int(step["resource"]["size"]))
            token, rewritten = step.get("rewriteToken"), int(step.get("totalBytesRewritten", 0))
            if token is None or rewritten <= done:
                raise ConnectionError("the store does not get on with the copy")
            done = rewritten

    async def compose(self, sources: Sequence[tuple[str, str]], key: str, options: WriteOptions) -> Stored:
        """One object of at most 32 pinned ones (name, generation), in their order.

        `AlreadyExists` where the key is taken (with `create_only`), `EtagMismatch` where a source is another now.
        """
        pinned = [{"name": name, "objectPreconditions": {"ifGenerationMatch": pin}} for name, pin in sources]
        query = {"ifGenerationMatch": 0 if options.create_only else None, "kmsKeyName": self.kms_key}
        wanted = {"kind": "storage#composeRequest", "destination": described(options), "sourceObjects": pinned}
        answer = await self.http.ask_json("POST", f"{self.path(key)}/compose", query, wanted)
        if answer.status == 412:
            raise await self._refused(key, options)
        if answer.status == 404:
            raise EtagMismatch(key)
        if answer.status != 200:
            raise self.http.refusal(answer)
        return Stored(answer.resource["generation"], int(answer.resource["size"]))

    async def _refused(self, key: str, options: WriteOptions) -> Exception:
        """Which of the preconditions of a composition did not hold."""
        if not options.create_only:
            return EtagMismatch(key)
        try:
            await self.head(key)
        except NotFound:
            return EtagMismatch(key)
        return AlreadyExists(key)

    def path(self, key: str, start: str = "/storage/v1") -> str:
        """Where the JSON API keeps the key."""
        return f"{start}/b/{self.http.bucket}/o/{urllib.parse.quote(key, safe='')}"


def is_generation(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def _info(resource: Mapping[str, Any]) -> BlobInfo:
    return BlobInfo(
        etag=resource["generation"],
        size_bytes=int(resource["size"]),
        landed_at=_time(resource["timeCreated"]),
        content_type=resource.get("contentType", ""),
        metadata=plain_metadata(resource.get("metadata") or {}),
        crc32c=resource.get("crc32c") or None,
        md5=hexadecimal(resource.get("md5Hash")),
    )


def entry_of(resource: Mapping[str, Any]) -> BlobEntry:
    return BlobEntry(resource["name"], int(resource["size"]), resource["generation"], _time(resource["timeCreated"]))


def hexadecimal(text: str | None) -> str | None:
    """Base64 as hex."""
    try:
        return base64.b64decode(text, validate=True).hex() if text else None
    except binascii.Error:
        return None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
