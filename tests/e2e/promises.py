"""What clients were told, kept beside the operations that they were told it of; and what must be true at rest.

Per object the model holds every content that a reader may find: an acknowledged write leaves one, a failed one none,
and one without an answer leaves both the old and the new.
"""

import hashlib
import os

import httpx

from prism.catalog import usage
from prism.catalog.rows import ObjectRow, VersionRow, decode
from prism.meta import tuples
from prism.workers.fsck import fsck

CONFIG = """
namespaces:
  - {name: user-uploads, backend: local, bucket: prism-objects, events: true}
  - {name: kept, backend: local, bucket: kept-bucket, versioning: true, events: true}
  - {name: short, backend: local, bucket: short-bucket, default_ttl_seconds: 3600}
"""
ABSENT = None


class Died(Exception):
    """The server is gone, in the middle of an operation."""


class Client:
    """Speaks to a server over HTTP, repeats nothing, and keeps the model. The model outlives the server."""

    def __init__(self):
        self.allowed: dict[tuple[str, str, str], set[bytes | None]] = {}
        self.may_expire: set[tuple[str, str, str]] = set()
        self._http = None
        self._base = self._uploads = ""

    def connect(self, base):
        self.close()
        self._base = f"{base}/v1/namespaces"
        self._uploads = f"{base}/v1/uploads"
        self._http = httpx.Client(timeout=20)

    def close(self):
        if self._http is not None:
            self._http.close()

    def ask(self, method, url, **more):
        try:
            return self._http.request(method, url, **more)
        except httpx.TransportError as error:
            raise Died from error

    def write(self, names, content, work):
        """An operation that gives each of `names` one content: tells the model of it, whatever comes."""
        before = {name: self.allowed.get(name, {ABSENT}) for name in names}
        for name in names:
            self.allowed[name] = before[name] | {content}
        answer = work()
        if answer.is_success:
            self.allowed |= {name: {content} for name in names}
        elif answer.status_code < 500:
            self.allowed |= before
        return answer

    def put(self, space, key, content, bucket="", headers=None):
        name, url = (space, bucket, key), self._url(space, key)
        if "prism-ttl-seconds" in (headers or {}) or space == "short":
            self.may_expire.add(name)
        return self.write(
            [name], content, lambda: self.ask("PUT", url, content=content, params=_bucket(bucket), headers=headers)
        )

    def put_by_url(self, space, key, content, times=1):
        signed = self.presign(space, key, "PUT")
        for number in range(times):
            body = content + b"again" * number
            self.write([(space, "", key)], body, lambda body=body: self.ask("PUT", signed, content=body))

    def put_in_parts(self, space, key, content, part_bytes):
        """Declared, sent part by part to the URLs that the server gives, completed, and completed once more."""
        ticket = self.begin_parts(space, key, len(content), part_bytes)
        upload, numbers = f"{self._uploads}/{ticket['upload_id']}", list(range(1, ticket["parts"] + 1))
        signed = self.ask("POST", f"{upload}/parts", json={"numbers": numbers}).json()["parts"]
        for part in signed:
            start = (part["number"] - 1) * part_bytes
            sent = self.ask("PUT", part["url"], content=content[start : start + part_bytes], headers=part["headers"])
            assert sent.is_success, sent.text
        for _ in range(2):
            self.write([(space, "", key)], content, lambda: self.ask("POST", f"{upload}/complete", json={}))

    def begin_parts(self, space, key, size_bytes, part_bytes):
        wanted = {"namespace": space, "key": key, "size_bytes": size_bytes, "in_parts": True}
        answer = self.ask("POST", self._uploads, json={**wanted, "part_size_bytes": part_bytes})
        assert answer.is_success, answer.text
        return answer.json()

    def give_up_parts(self, space, key, size_bytes, part_bytes):
        ticket = self.begin_parts(space, key, size_bytes, part_bytes)
        answer = self.ask("DELETE", f"{self._uploads}/{ticket['upload_id']}")
        assert answer.is_success, answer.text

    def presign(self, space, key, method):
        answer = self.ask("POST", f"{self._base}/{space}/presign", json={"key": key, "method": method})
        assert answer.is_success, answer.text
        return answer.json()["url"]

    def copy(self, space, source, key):
        contents = self.allowed[space, "", source]
        assert len(contents) == 1
        body = {"source_key": source, "destination_key": key}
        return self.write(
            [(space, "", key)], next(iter(contents)), lambda: self.ask("POST", f"{self._base}/{space}/copy", json=body)
        )

    def delete(self, space, key, bucket=""):
        url = self._url(space, key)
        return self.write([(space, bucket, key)], ABSENT, lambda: self.ask("DELETE", url, params=_bucket(bucket)))

    def delete_folder(self, space, folder):
        names = [name for name in self.allowed if name[:2] == (space, "") and name[2].startswith(folder)]
        return self.write(
            names, ABSENT, lambda: self.ask("DELETE", f"{self._base}/{space}/objects", params={"prefix": folder})
        )

    def make_bucket(self, space, bucket):
        return self.ask("PUT", f"{self._base}/{space}/buckets/{bucket}")

    def get(self, space, key, bucket=""):
        """The content; None when absent."""
        answer = self.ask("GET", self._url(space, key), params=_bucket(bucket))
        if answer.status_code == 404:
            return ABSENT
        assert answer.status_code == 200, f"{space} {bucket} {key}: {answer.status_code} {answer.text[:300]}"
        return answer.content

    def check(self):
        """Everything reads as somebody was told; what a reader saw, readers see from then on."""
        for name, allowed in self.allowed.items():
            space, bucket, key = name
            found = self.get(space, key, bucket)
            assert found in allowed, f"{name}: {_short(found)} instead of {[_short(one) for one in allowed]}"
            self.allowed[name] = {found}

    def _url(self, space, key):
        escaped = "".join(f"%{byte:02X}" for byte in key.encode())
        return f"{self._base}/{space}/objects/{escaped}"


def _bucket(name):
    return {"bucket": name} if name else {}


def _short(content):
    return content if content is None or len(content) < 40 else f"{len(content)} bytes {content[:20]!r}"


def operate(client, life):
    """Every kind of write there is, each at least twice. Raises `Died` when the server does."""
    own = hashlib.sha256(str(life).encode()).hexdigest().encode()
    big = (own * 50_000)[:3_000_000]
    for number in range(2):
        tail = own + bytes([number])
        client.put("user-uploads", f"plain/{number}", b"small" + tail)
        client.put("user-uploads", f"plain/big {number}", big + tail)
        client.put("user-uploads", "over/written", b"over" + tail)
        client.put("kept", "over/written", b"over" + tail)
        client.put("short", f"soon/{number}", b"soon" + tail)
        client.put("user-uploads", f"ttl/{number}", b"ttl" + tail, headers={"prism-ttl-seconds": "86400"})
        client.put_by_url("user-uploads", f"by-url/{number}", b"by url" + tail, times=2)
        client.put_by_url("kept", "by-url/kept", b"by url" + tail)
        client.presign("user-uploads", f"never/{number}", "PUT")
        client.put_in_parts("user-uploads", f"in-parts/{number}", b"in parts" + tail, 40)
        client.put_in_parts("kept", "in-parts/kept", b"in parts" + tail, 100)
        client.begin_parts("user-uploads", f"never/parts {number}", 100, 40)
        client.give_up_parts("user-uploads", f"in-parts/{number}", 100, 40)
        client.copy("user-uploads", f"plain/{number}", f"copied/{number}")
        client.put("user-uploads", f"gone/{number}", b"gone" + tail)
        client.delete("user-uploads", f"gone/{number}")
        client.delete("kept", "over/written")
        client.put("user-uploads", "once", b"once" + tail, headers={"if-none-match": "*"})
        bad = {"prism-checksum-sha256": hashlib.sha256(b"other").hexdigest()}
        client.put("user-uploads", f"plain/{number}", b"not this" + tail, headers=bad)
        client.make_bucket("user-uploads", f"further-{number}")
        client.put("user-uploads", "in/bucket", b"other" + tail, bucket=f"further-{number}")
        for leaf in ("a", "b/c", "d e"):
            client.put("user-uploads", f"folder{number}/{leaf}", b"leaf" + tail)
            client.put("kept", f"folder{number}/{leaf}", b"leaf" + tail)
        client.delete_folder("user-uploads", f"folder{number}/")
        client.delete_folder("kept", f"folder{number}/")
        client.put("user-uploads", f"folder{number}/after", b"after" + tail)
        for odd in ("a//b", "ü/☃", "x" * 1000, "..", "with\nline"):
            client.put("user-uploads", f"{odd}", b"odd" + tail)


async def at_rest(app, data_dir):
    """Promise 9: the bytes are exactly those referenced, and the owner marker; no row of anything unfinished."""
    for space in app.namespaces:
        referenced = set()
        for kind, row in (("o", ObjectRow), ("v", VersionRow)):
            for entry in await _rows(app.meta, space.name, kind):
                value = decode(row, entry.value)
                held = value.row if isinstance(value, VersionRow) else value
                referenced |= {held.physical_key} if held is not None else set()
        stored = {entry.key for entry in await space.store.list("", "", 1000)}
        assert stored == referenced | {space.layout.owner}, (space.name, stored ^ (referenced | {space.layout.owner}))
        for kind in "uwdpqgtkx":
            left = await _rows(app.meta, space.name, kind)
            assert not left, f"{space.name}: rows of kind {kind} are left: {[entry.key for entry in left]}"
        counters = await app.meta.read(lambda view, name=space.name: usage.counters(view, name))
        counted = await app.meta.read(lambda view, name=space.name: usage.counted(view, name))
        assert (counters.objects, counters.size_bytes) == (counted.objects, counted.size_bytes)
        assert (counters.garbage, counters.garbage_bytes, counters.uploads, counters.outbox) == (0, 0, 0, 0)
        report = await fsck(space)
        assert report.clean, report
        assert not any(report.kinds[kind].count for kind in ("young", "foreign", "promised", "condemned")), report
        files = [name for _, _, names in os.walk(data_dir / "blobs" / space.name) for name in names]
        assert len(files) == len(stored), files


async def _rows(meta, namespace, kind):
    start, end = tuples.span((namespace, kind))
    return await meta.read(lambda view: view.range(start, end, limit=1000))
