"""The server's own pages: the API's description, docs for people, health, readiness, metrics, and the front page.

The pages load nothing from anywhere; their policy allows exactly the script and the styles that stand in them.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from ..access import Operation
from ..model import Action
from .headers import Header
from .http_exchange import Reply, Request, json_reply
from .http_routing import Answer, Handler, NoQuery, Route
from .openapi import document

__all__ = ["page_routes"]

_PAGES = Path(__file__).parent / "pages"
_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)


class HealthReply(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str


class ReadyReply(msgspec.Struct, frozen=True):
    """What is not ready, by name, and why."""

    ready: bool
    not_ready: dict[str, str]


def page_routes(others: Sequence[Route]) -> tuple[Route, ...]:
    """The pages, with the description of themselves and of the other routes."""
    description: list[bytes] = []

    async def described(request: Request) -> Reply:
        with _operation(request, Action.READ_DOCS):
            headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-cache")]
            return Reply(200, headers, description[0])

    routes = (
        _page("/", "frontPage", "A page that links the rest", Action.READ_UI, _html("index.html", Action.READ_UI)),
        _page("/docs", "docs", "The API for people", Action.READ_DOCS, _html("docs.html", Action.READ_DOCS)),
        _json_page("/openapi.json", "openapi", "The API for programs", Action.READ_DOCS, described, None),
        _json_page("/healthz", "healthz", "Whether the process is alive", Action.READ_HEALTH, _health, HealthReply),
        msgspec.structs.replace(
            _json_page(
                "/readyz", "readyz", "Whether everything it needs answers", Action.READ_HEALTH, _ready, ReadyReply
            ),
            answers=(Answer(200, "Ready", ReadyReply), Answer(503, "Not ready", ReadyReply)),
        ),
        _page("/metrics", "metrics", "Prometheus metrics", Action.READ_METRICS, _metrics, "text/plain"),
    )
    description.append(msgspec.json.encode(document([*others, *routes])))
    return routes


def _page(path: str, name: str, summary: str, action: Action, handler: Handler, media_type: str = "text/html") -> Route:
    return Route(
        method="GET",
        path=path,
        name=name,
        summary=summary,
        tag="server",
        handler=handler,
        actions=(action,),
        answers=(Answer(200, summary, media_type=media_type),),
    )


def _json_page(path: str, name: str, summary: str, action: Action, handler: Handler, kind: type | None) -> Route:
    page = _page(path, name, summary, action, handler)
    answer = Answer(200, summary, kind) if kind else Answer(200, summary, media_type="application/json")
    return msgspec.structs.replace(page, answers=(answer,))


def _operation(request: Request, action: Action) -> Operation:
    request.parameters(NoQuery)
    return request.services.access.operation(request.caller, action)


def _html(name: str, action: Action) -> Handler:
    body = (_PAGES / name).read_bytes()
    headers: list[Header] = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", _policy(body)),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-cache"),
    ]

    async def handler(request: Request) -> Reply:
        with _operation(request, action):
            return Reply(200, headers, body)

    return handler


def _policy(page: bytes) -> bytes:
    """Only what stands in the page, and its fetches from here."""
    allowed: dict[bytes, list[bytes]] = {b"script": [], b"style": []}
    for kind, text in _INLINE.findall(page):
        allowed[kind].append(b"'sha256-%s'" % base64.b64encode(hashlib.sha256(text).digest()))
    rules = [b"default-src 'none'", b"connect-src 'self'", b"base-uri 'none'", b"form-action 'none'"]
    rules += [b"%s-src %s" % (kind, b" ".join(hashes)) for kind, hashes in allowed.items() if hashes]
    return b"; ".join([*rules, b"frame-ancestors 'none'"])


async def _health(request: Request) -> Reply:
    with _operation(request, Action.READ_HEALTH):
        return json_reply(HealthReply("ok"))


async def _ready(request: Request) -> Reply:
    with _operation(request, Action.READ_HEALTH):
        missing = dict(await request.services.ready())
        return json_reply(ReadyReply(not missing, missing), 503 if missing else 200)


async def _metrics(request: Request) -> Reply:
    with _operation(request, Action.READ_METRICS):
        body = generate_latest(request.services.registry)
        return Reply(200, [(b"content-type", CONTENT_TYPE_LATEST.encode()), (b"cache-control", b"no-store")], body)
