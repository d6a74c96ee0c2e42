"""A front before fake-gcs-server that holds callers to what Google documents and that server does not look at.

It verifies V4 signatures with the account's public key over a canonical request of its own making, and the tokens that
come with other requests; it enforces signed headers (create-only, length, checksums, nothing unsigned) and the
generation preconditions of deletions, rewrites and compositions. So it shows that the driver asks for the right things
and understands the refusals; what Google itself answers, only Google can show.
(https://cloud.google.com/storage/docs/authentication/canonical-requests, …/request-preconditions, …/reference-headers)
"""

import base64
import contextlib
import hashlib
import http.client
import http.server
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import google_crc32c
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

__all__ = ["Refused", "check_signature", "front"]


class Refused(Exception):
    """What the front answers instead of the server."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code


def check_signature(method: str, target: str, headers: dict[str, str], key: rsa.RSAPublicKey, now: datetime) -> None:
    """`Refused` unless `key` signed this request and it is good at `now`. Names of headers are lower-case."""
    path, _, raw = target.partition("?")
    pairs = [pair.partition("=")[::2] for pair in raw.split("&")]
    query = {unquote(name): unquote(value) for name, value in pairs}
    signed = query["X-Goog-SignedHeaders"].split(";")
    account, day, *rest = query["X-Goog-Credential"].split("/")
    if query["X-Goog-Algorithm"] != "GOOG4-RSA-SHA256" or rest != ["auto", "storage", "goog4_request"] or not account:
        raise Refused(400, "InvalidArgument")
    made = datetime.strptime(query["X-Goog-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    lasting = int(query["X-Goog-Expires"])
    if not 0 < lasting <= 604800 or made.strftime("%Y%m%d") != day or made > now + timedelta(minutes=15):
        raise Refused(400, "InvalidArgument")
    if now >= made + timedelta(seconds=lasting):
        raise Refused(400, "ExpiredToken")
    unsigned = {name for name in headers if name.startswith("x-goog-")} - set(signed)
    if unsigned or "host" not in signed or signed != sorted(signed):
        raise Refused(400, "MalformedSecurityHeader")
    canonical = "\n".join(
        [
            method,
            path,
            "&".join("=".join(pair) for pair in sorted(pairs) if pair[0] != "X-Goog-Signature"),
            *(f"{name}:{' '.join(headers.get(name, '').split())}" for name in signed),
            "",
            ";".join(signed),
            "UNSIGNED-PAYLOAD",
        ]
    )
    digest = hashlib.sha256(canonical.encode("latin-1")).hexdigest()
    scope = "/".join([day, *rest])
    message = f"GOOG4-RSA-SHA256\n{query['X-Goog-Date']}\n{scope}\n{digest}".encode()
    try:
        key.verify(bytes.fromhex(query["X-Goog-Signature"]), message, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError):
        raise Refused(403, "SignatureDoesNotMatch") from None


@contextlib.contextmanager
def front(server: str, key: rsa.RSAPublicKey) -> Iterator[str]:
    """The URL of a front before `server` that trusts `key`."""
    host = urlsplit(server).netloc

    class Door(_Door):
        upstream = host
        trusted = key
        one_at_a_time = threading.Lock()

    door = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=door.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{door.server_port}"
    finally:
        door.shutdown()
        door.server_close()
        thread.join()


class _Door(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    upstream: str
    trusted: rsa.RSAPublicKey
    one_at_a_time: threading.Lock
    """Held from a look at what must hold to the write."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            with contextlib.nullcontext() if self.command == "GET" else self.one_at_a_time:
                self._check(headers, body)
                status, said, content = self._forward(self.command, self.path, headers, body)
        except Refused as refused:
            status, said = refused.status, {"Content-Type": "application/xml"}
            content = f"<Error><Code>{refused.code}</Code></Error>".encode()
        self._answer(status, said, content)

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = do_HEAD = _serve

    def _check(self, headers: dict[str, str], body: bytes) -> None:
        split = urlsplit(self.path)
        query = dict(parse_qsl(split.query))
        if split.path.startswith(("/storage/", "/upload/", "/batch/")):
            self._check_token(headers)
            self._check_generations(split.path, query, body)
        elif "X-Goog-Signature" in query:
            check_signature(self.command, self.path, headers, self.trusted, datetime.now(UTC))
            self._check_bound(split.path, headers, body)
        else:
            self._check_token(headers)

    def _check_token(self, headers: dict[str, str]) -> None:
        """A token of the account's own service, for the scope that the driver needs."""
        try:
            head, claims, signature = headers["authorization"].removeprefix("Bearer ").split(".")
            proof = base64.urlsafe_b64decode(signature + "==")
            self.trusted.verify(proof, f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
            told = json.loads(base64.urlsafe_b64decode(claims + "=="))
        except (KeyError, ValueError, InvalidSignature):
            raise Refused(401, "AuthenticationRequired") from None
        if told["exp"] < time.time() or "devstorage" not in told["scope"]:
            raise Refused(401, "AuthenticationRequired")

    def _check_bound(self, path: str, headers: dict[str, str], body: bytes) -> None:
        _, bucket, name = path.split("/", 2)
        wanted = headers.get("x-goog-if-generation-match")
        if wanted is not None and wanted != self._generation(bucket, unquote(name)):
            raise Refused(412, "PreconditionFailed")
        least, _, most = headers.get("x-goog-content-length-range", f"0,{len(body)}").partition(",")
        if not int(least) <= len(body) <= int(most):
            raise Refused(400, "EntityTooLarge" if len(body) > int(most) else "EntityTooSmall")
        for said in filter(None, headers.get("x-goog-hash", "").split(",")):
            kind, _, digest = said.partition("=")
            value = google_crc32c.Checksum(body).digest() if kind == "crc32c" else hashlib.md5(body).digest()
            if base64.b64encode(value).decode() != digest:
                raise Refused(400, "BadDigest")

    def _check_generations(self, path: str, query: dict[str, str], body: bytes) -> None:
        if not path.startswith("/storage/v1/b/") or self.command not in {"POST", "DELETE"} or "/o/" not in path:
            return
        bucket = path.split("/")[4]
        name = unquote(path.removesuffix("/compose").rpartition("/o/")[2])
        wanted = query.get("ifGenerationMatch")
        now = self._generation(bucket, name)
        if wanted is not None and wanted != now and not (self.command == "DELETE" and now == "0"):
            raise Refused(412, "PreconditionFailed")
        if path.endswith("/compose"):
            for source in json.loads(body)["sourceObjects"]:
                pinned = source.get("objectPreconditions", {}).get("ifGenerationMatch")
                if pinned is not None and pinned != self._generation(bucket, source["name"]):
                    raise Refused(412, "PreconditionFailed")

    def _generation(self, bucket: str, name: str) -> str:
        target = f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}"
        status, _, content = self._forward("GET", target, {}, b"")
        return str(json.loads(content)["generation"]) if status == 200 else "0"

    def _forward(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection(self.upstream, timeout=30)
        try:
            connection.request(method, target, body, {**headers, "host": self.upstream})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: Any, content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""
