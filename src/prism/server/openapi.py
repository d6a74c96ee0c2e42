"""The OpenAPI 3.1 document of the HTTP API, made from the table of routes and the types that the routes really use."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from .. import __version__
from .http_exchange import ErrorReply
from .http_routing import Answer, Parameter, Route

__all__ = ["document"]

_REF = "#/components/schemas/{name}"
_VARIABLE = re.compile(r"\{(\w+)\}")
_DESCRIPTION = """\
Objects with exact lifetimes, in namespaces and buckets. A key is the rest of the path, percent-decoded once and taken
as it is: `//`, `..` and a trailing slash are part of it. Errors are `{"error": {"code", "message", "request_id"}}`;
every answer carries `x-request-id`. User metadata goes and comes in `Prism-Meta-{name}` headers; a value that is not
ASCII is written as RFC 8187 says (`UTF-8''` and the value percent-encoded). Query and body fields that are not known
are refused."""
_VARIABLES = {
    "namespace": "A configured namespace",
    "key": "The object's key, 1 to 1,024 bytes of UTF-8, slashes included",
    "bucket": "The bucket's name",
    "upload_id": "As `createUpload` gave it",
}


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The whole document, ready for JSON."""
    types = {ErrorReply} | {route.body for route in routes if route.body not in {None, bytes}}
    types |= {answer.kind for route in routes for answer in route.answers if answer.kind is not None}
    _, components = msgspec.json.schema_components(sorted(types, key=lambda kind: kind.__name__), ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Prism HTTP API", "version": __version__, "description": _DESCRIPTION},
        "paths": paths,
        "components": {"schemas": components},
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": [*_path(route.path), *_query(route.query), *_headers(route.headers)],
        "responses": {str(answer.status): _response(answer) for answer in route.answers} | {"default": _ERROR},
    }
    if route.body is bytes:
        operation["requestBody"] = {"content": {"*/*": {"schema": {}}}}
    elif route.body is not None:
        operation["requestBody"] = {"required": True, "content": _json(route.body)}
    return operation


def _path(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _VARIABLES[name],
            "schema": {"type": "string", "minLength": 1},
        }
        for name in _VARIABLE.findall(path)
    ]


def _query(kind: type[Any]) -> list[dict[str, Any]]:
    (_, components) = msgspec.json.schema_components([kind], ref_template=_REF)
    schema = components[kind.__name__]
    parameters = []
    for name, described in schema["properties"].items():
        inner = {key: value for key, value in described.items() if key != "description"}
        parameter = {"name": name, "in": "query", "required": name in schema.get("required", []), "schema": inner}
        if "description" in described:
            parameter["description"] = described["description"]
        parameters.append(parameter)
    return parameters


def _headers(headers: Sequence[Parameter]) -> list[dict[str, Any]]:
    """`Content-Type` is described by the body, and OpenAPI knows no families of headers."""
    return [
        {"name": header.name, "in": "header", "description": header.description, "schema": {"type": header.kind}}
        for header in headers
        if header.name != "Content-Type" and "*" not in header.name
    ]


def _response(answer: Answer) -> dict[str, Any]:
    response: dict[str, Any] = {"description": answer.description}
    named = {
        header.name: {"description": header.description, "schema": {"type": header.kind}}
        for header in answer.headers
        if "*" not in header.name
    }
    if named:
        response["headers"] = named
    if answer.kind is not None:
        response["content"] = _json(answer.kind)
    elif answer.media_type:
        response["content"] = {answer.media_type: {"schema": {}}}
    return response


def _json(kind: type[Any]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(name=kind.__name__)}}}


_ERROR = {"description": "An error", "content": _json(ErrorReply)}
