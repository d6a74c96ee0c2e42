"""Which route a raw path is: the table that the server dispatches by, and the OpenAPI document and tests are made from.

Paths match to the byte. The fixed parts of a template are compared as they were sent; a variable part is decoded once.
A template's last variable takes the whole rest of the path, slashes included, so a key may hold anything.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from ..model import Action
from .http_exchange import Reply, Request, decoded

__all__ = ["NAMESPACES", "UPLOADS", "Answer", "NoQuery", "Parameter", "Resource", "Route", "Router"]

Handler = Callable[[Request], Awaitable[Reply | None]]
"""None: the handler has answered by itself."""
Resource = Mapping[str, "Route"]
NAMESPACES = "/v1/namespaces/"
UPLOADS = "/v1/uploads"
_IN_NAMESPACE = "/v1/namespaces/{namespace}/"
_OF_UPLOAD = "/v1/uploads/{upload_id}"


class NoQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A route without query parameters."""


class Parameter(msgspec.Struct, frozen=True):
    """A header that a route reads or writes, for the OpenAPI document."""

    name: str
    description: str
    kind: str = "string"
    """Its JSON type."""


class Answer(msgspec.Struct, frozen=True):
    """A successful answer of a route: JSON of `kind`, a media type, or nothing."""

    status: int
    description: str
    kind: Any = None
    media_type: str = ""
    headers: tuple[Parameter, ...] = ()


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path."""

    method: str
    path: str
    name: str
    """The operation's id in the OpenAPI document."""
    summary: str
    tag: str
    handler: Handler
    actions: tuple[Action, ...]
    """What the decision function is asked for."""
    answers: tuple[Answer, ...]
    query: type[Any] = NoQuery
    body: Any = None
    """The type of a JSON body, or `bytes`."""
    headers: tuple[Parameter, ...] = ()
    moves_bytes: bool = False
    """A transfer: bounded by its pace and `limits.max_transfer_seconds`, not by `limits.request_seconds`."""


class Router:
    """The routes, by what their paths begin with."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._fixed: dict[bytes, dict[str, Route]] = {}
        self._inside: dict[bytes, dict[str, Route]] = {}
        self._below: dict[bytes, dict[str, Route]] = {}
        self._of_upload: dict[bytes, dict[str, Route]] = {}
        for route in routes:
            self._methods(route.path)[route.method] = route
        for table in (self._fixed, self._inside, self._below, self._of_upload):
            for methods in table.values():
                if "GET" in methods:
                    methods.setdefault("HEAD", methods["GET"])

    def _methods(self, path: str) -> dict[str, Route]:
        if path.startswith(_OF_UPLOAD):
            return self._of_upload.setdefault(path.removeprefix(_OF_UPLOAD).encode(), {})
        if not path.startswith(_IN_NAMESPACE):
            return self._fixed.setdefault(path.encode(), {})
        first, slash, _ = path.removeprefix(_IN_NAMESPACE).partition("/")
        return (self._below if slash else self._inside).setdefault(first.encode(), {})

    def find(self, path: bytes) -> tuple[Resource, bytes, bytes] | None:
        """The methods of a path, its namespace and its tail, still encoded; None when there is no such path."""
        if path.startswith(b"/v1/namespaces/"):
            namespace, _, rest = path[15:].partition(b"/")
            first, slash, tail = rest.partition(b"/")
            resource = (self._below if slash else self._inside).get(first)
            if resource is not None and namespace:
                return resource, namespace, tail
        if path.startswith(b"/v1/uploads/"):
            upload_id, slash, rest = path[12:].partition(b"/")
            resource = self._of_upload.get(slash + rest)
            if resource is not None and upload_id:
                return resource, b"", upload_id
        fixed = self._fixed.get(path)
        return None if fixed is None else (fixed, b"", b"")

    @staticmethod
    def place(request: Request, namespace: bytes, tail: bytes) -> None:
        """Put the variable parts into the request. INVALID_ARGUMENT for what cannot be decoded."""
        request.namespace = decoded(namespace, "the namespace's name")
        request.tail = decoded(tail, "the path")
