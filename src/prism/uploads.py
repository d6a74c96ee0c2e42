"""Presigned transfers: a promise first, then a URL that carries it; and keeping that promise when the body arrives.

A presigned PUT of a local or memory namespace points to Prism's own S3 API and names its promise (`x-prism-upload`) in the
signed query; the first complete body keeps that promise, a further one is an ordinary put (or 412 when it was bound).
"""

from collections.abc import AsyncIterator
from datetime import timedelta

from .model import Caller, ObjectInfo, ObjectRef, PresignedURL, PutOptions

__all__ = ["Uploads"]


class Uploads:
    """Presigning for all namespaces of one process."""

    async def presign(
        self,
        caller: Caller,
        ref: ObjectRef,
        method: str,
        expires_in: timedelta | None = None,
        *,
        options: PutOptions | None = None,
        response_content_type: str | None = None,
        response_content_disposition: str | None = None,
    ) -> PresignedURL:
        """A URL for one method and key: GET of an absent object is OBJECT_NOT_FOUND and is capped at its expiry, PUT makes
        a durable promise first (`options.content_type`, when set, is bound), DELETE as PUT without one. None or zero
        means 3600 s; other than 1 to 3600 s, or another method, is INVALID_ARGUMENT."""
        raise NotImplementedError

    async def keep(
        self, caller: Caller, ref: ObjectRef, upload_id: str, chunks: AsyncIterator[bytes], options: PutOptions
    ) -> ObjectInfo:
        """The body for a presigned PUT has come. Errors: as `ObjectStore.put`; PRECONDITION_FAILED when a bound URL was
        used before; DELETED_MEANWHILE when a deletion of its folder came after the URL."""
        raise NotImplementedError
