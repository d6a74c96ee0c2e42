"""For tests of S3: boto3 against a running Prism, and a client that signs like botocore but sends what it is told."""

import asyncio
import functools
import hashlib
import http.client
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

__all__ = ["BUCKET", "KEY_PAIR", "SPACE", "Answer", "Raw", "boto", "error_code", "s3_code"]

SPACE, BUCKET = "user-uploads", "prism-objects"
KEY_PAIR = (SPACE, f"prism-local-{SPACE}")


@functools.lru_cache(maxsize=1)
def _session() -> Any:
    return boto3.session.Session(*KEY_PAIR, region_name="us-east-1")


def boto(url: str, pair: tuple[str, str] = KEY_PAIR, **options: Any) -> Any:
    """A boto3 client as people make it."""
    client_options = {name: options.pop(name) for name in ("verify",) if name in options}
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}, **options)
    return _session().client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=pair[0],
        aws_secret_access_key=pair[1],
        config=config,
        **client_options,
    )


def error_code(call: Any, /, **arguments: Any) -> str:
    """S3's code of the error that a boto3 call ends with."""
    try:
        call(**arguments)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    raise AssertionError("no error came")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def s3_code(answer: Answer) -> str:
    """The Code of an error document, whose other parts are looked at, too."""
    found = re.search(rb"<Error><Code>(\w+)</Code><Message>.+</Message><Resource>", answer.body)
    assert found is not None, answer
    assert f"<RequestId>{answer.headers['x-amz-request-id']}</RequestId>".encode() in answer.body
    assert answer.headers["content-type"] == "application/xml"
    return found[1].decode()


class _Signer(S3SigV4Auth):
    mode: str | None = None

    def payload(self, request: AWSRequest) -> str:
        return self.mode or hashlib.sha256(request.body or b"").hexdigest()


@dataclass
class Raw:
    """Sends `target` as it stands; signs unless `signed` is False."""

    url: str
    pair: tuple[str, str] = KEY_PAIR
    region: str = "us-east-1"
    extra: dict[str, str] = field(default_factory=dict)

    async def send(self, method: str, target: str, body: bytes = b"", **options: Any) -> Answer:
        """One request on a connection of its own. Options: headers, signed, mode, unsigned_headers, length."""
        return await asyncio.to_thread(self._send, method, target, body, **options)

    def sign(
        self, method: str, target: str, headers: dict[str, str], body: bytes = b"", mode: str | None = None
    ) -> Any:
        """The signed request and its signer, for chunk signatures."""
        signer = _Signer(Credentials(*self.pair), "s3", self.region)
        signer.mode = mode
        request = AWSRequest(method=method, url=self.url + target, headers=headers, data=body)
        signer.add_auth(request)
        return request, signer

    def _send(
        self,
        method: str,
        target: str,
        body: bytes,
        *,
        headers: dict[str, str] | None = None,
        signed: bool = True,
        mode: str | None = None,
        unsigned_headers: dict[str, str] | None = None,
        length: bool = True,
    ) -> Answer:
        sent = dict(headers or {})
        if signed:
            sent = dict(self.sign(method, target, sent, body, mode)[0].headers.items())
        if length and (body or method in {"PUT", "POST"}):
            sent.setdefault("Content-Length", str(len(body)))
        return self.exchange(method, target, {**sent, **(unsigned_headers or {})}, body)

    def exchange(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        """Send exactly this."""
        netloc = urlsplit(self.url).netloc
        connection = http.client.HTTPConnection(netloc, timeout=20)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in {"Host": netloc, **headers}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, {n.lower(): v for n, v in response.getheaders()}, response.read())
        finally:
            connection.close()
