"""Copies inside an S3 store, pinned to the source's etag; large ones in parts, since one request copies at most 5 GiB.

S3 itself refuses a copy onto a key that is taken; compatibles ignore the condition, so the key is looked at before.
Every attempt uses a fresh key (`prism.keys`), nobody else writes to it in between.
"""

from collections.abc import Mapping
from typing import Any

from .driver import BlobInfo, Part, Stored, WriteOptions
from .obstores import quoted, unquoted
from .s3_requests import Requests
from .s3_uploads import Begun, Uploads

__all__ = ["COPY_IN_PARTS_BYTES", "Copies"]

COPY_IN_PARTS_BYTES = 256 * 2**20
"""Sources above this are copied in parts of this size: a store answers within its request timeout."""
_MOST_PARTS = 10_000
_AT_A_TIME = 8


class Copies:
    """Copies within one bucket."""

    def __init__(self, requests: Requests, uploads: Uploads, bucket: str, in_parts_bytes: int) -> None:
        self._requests = requests
        self._uploads = uploads
        self._bucket = bucket
        self._in_parts_bytes = in_parts_bytes

    async def copy(
        self, info: BlobInfo, source: str, key: str, options: WriteOptions, fields: Mapping[str, str], refused: bool
    ) -> Stored:
        """Copy `source`, of which the store said `info`, to a free key. `refused`: the store refuses a taken one."""
        if info.size_bytes > self._in_parts_bytes:
            return await self._in_parts(info, source, key, options, fields)
        if options.gate is not None:
            await options.gate()
        parameters = self._uploads.written(options, fields) | self._pinned(source, info.etag)
        parameters |= {"MetadataDirective": "REPLACE", "TaggingDirective": "REPLACE"}
        if refused:
            parameters["IfNoneMatch"] = "*"
        answer = await self._requests.ask("copy_object", Key=key, **parameters)
        return Stored(unquoted(answer["CopyObjectResult"]["ETag"]), info.size_bytes)

    def _pinned(self, source: str, etag: str) -> dict[str, Any]:
        return {"CopySource": {"Bucket": self._bucket, "Key": source}, "CopySourceIfMatch": quoted(etag)}

    async def _in_parts(
        self, info: BlobInfo, source: str, key: str, options: WriteOptions, fields: Mapping[str, str]
    ) -> Stored:
        size = max(self._in_parts_bytes, -(-info.size_bytes // _MOST_PARTS))
        async with self._uploads.begun(key, options, fields) as upload:
            for number, start in enumerate(range(0, info.size_bytes, size), 1):
                if options.gate is not None:
                    await options.gate()
                end = min(start + size, info.size_bytes) - 1
                await upload.start(self._copy_part(upload, number, source, info.etag, start, end), _AT_A_TIME)
            return await self._uploads.complete(key, upload.name, await upload.parts(), options)

    async def _copy_part(self, upload: Begun, number: int, source: str, etag: str, start: int, end: int) -> Part:
        about = {"Key": upload.key, "UploadId": upload.name, "PartNumber": number}
        span = {"CopySourceRange": f"bytes={start}-{end}"}
        answer = await self._requests.ask("upload_part_copy", **about, **span, **self._pinned(source, etag))
        return Part(number=number, etag=unquoted(answer["CopyPartResult"]["ETag"]), size_bytes=end - start + 1)
