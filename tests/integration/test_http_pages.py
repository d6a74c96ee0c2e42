"""The HTTP API as a whole: its description, its pages, foreign web pages, and operations on more than one object."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from http_support import OBJECTS, Served, asked, configured, served
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate

from prism.server.http import http_router

IN = "/v1/namespaces/things"


@pytest.fixture
async def prism(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(configured(tmp_path)) as world:
        yield world


async def test_the_description_is_valid_and_complete(prism: Served) -> None:
    described = (await prism.client.get("/openapi.json")).json()
    validate(described)
    assert described["openapi"].startswith("3.1")
    operations = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
    assert operations == {(route.method, route.path) for route in http_router().routes}


async def test_answers_are_as_described(prism: Served) -> None:
    """The JSON of every answer has the described fields, all of them and no others."""
    described = (await prism.client.get("/openapi.json")).json()
    await prism.put("a/b", b"1")
    for method, target, body in (
        ("GET", "/v1/namespaces", None),
        ("GET", f"{IN}/objects", None),
        ("PUT", f"{IN}/objects/k", None),
        ("DELETE", f"{IN}/objects/k", None),
        ("POST", f"{IN}/copy", {"source_key": "a/b", "destination_key": "c"}),
        ("POST", f"{IN}/presign", {"key": "a/b"}),
        ("GET", f"{IN}/expiring?within=100d", None),
        ("GET", f"{IN}/usage", None),
        ("GET", f"{IN}/buckets", None),
        ("PUT", f"{IN}/buckets/another", None),
        ("DELETE", f"{IN}/buckets/another", None),
        ("GET", "/readyz", None),
    ):
        answer = await prism.client.request(method, target, json=body)
        template = target.partition("?")[0].replace("things", "{namespace}")
        template = template.replace("/objects/k", "/objects/{key}").replace("/buckets/another", "/buckets/{bucket}")
        content = described["paths"][template][method.lower()]["responses"][str(answer.status_code)]["content"]
        reference = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert set(answer.json()) == set(described["components"]["schemas"][reference]["properties"]), target


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_pages_need_nothing_from_elsewhere(prism: Served, path: str) -> None:
    page = await prism.client.get(path)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert not re.search(r"(src|href)=\"(?!/)", page.text)
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for text in re.findall(r"<(?:script|style)>(.*?)</", page.text, re.DOTALL):
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy


async def test_readiness_tells_by_name(prism: Served) -> None:
    assert (await prism.client.get("/readyz")).json() == {"ready": True, "not_ready": {}}
    prism.unready["catalog"] = "it does not answer"
    answer = await prism.client.get("/readyz")
    assert (answer.status_code, answer.json()["not_ready"]) == (503, {"catalog": "it does not answer"})
    assert (await prism.client.get("/healthz")).status_code == 200


async def test_metrics(prism: Served) -> None:
    await prism.put("k", b"12345")
    text = (await prism.client.get("/metrics")).text
    assert 'prism_requests_total{action="object.put",api="http",outcome="OK"} 1.0' in text
    assert 'prism_bytes_total{action="object.put",direction="in"} 5.0' in text


async def test_lists_page_by_page(prism: Served) -> None:
    for key in ("a", "b/1", "b/2", "c", "d"):
        await prism.put(key, b"1")
    found: list[str] = []
    asked_for = {"max_results": "2", "delimiter": "/"}
    while True:
        page = (await prism.client.get(OBJECTS, params=asked_for)).json()
        found += [one["key"] for one in page["objects"]] + page["common_prefixes"]
        if page["next_token"] is None:
            break
        asked_for["token"] = page["next_token"]
    assert sorted(found) == ["a", "b/", "c", "d"]
    below = (await prism.client.get(OBJECTS, params={"prefix": "b/", "start_after": "b/1"})).json()
    assert [one["key"] for one in below["objects"]] == ["b/2"]
    foreign = await prism.client.get("/v1/namespaces/others/objects", params={"token": asked_for["token"]})
    assert foreign.status_code == 400


async def test_folders_copies_buckets_usage(prism: Served) -> None:
    await prism.put("f/a", b"12345", content_type="text/plain", prism_meta_x="1")
    await prism.put("fa", b"1")
    assert (await prism.client.put(f"{IN}/buckets/second")).status_code == 201
    assert (await prism.client.put(f"{IN}/buckets/second")).status_code == 409
    assert (await prism.client.head(f"{IN}/buckets/second")).status_code == 200
    assert (await prism.client.get(f"{IN}/buckets")).json() == {"buckets": ["things", "second"]}
    wanted = {"source_key": "f/a", "destination_key": "copy", "destination_bucket": "second", "ttl_seconds": 60}
    copied = (await prism.client.post(f"{IN}/copy", json=wanted)).json()
    assert (copied["bucket"], copied["expires_at"]) == ("second", "2026-11-24T12:01:00Z")
    got = await prism.client.get(f"{OBJECTS}/copy", params={"bucket": "second"})
    assert (got.content, got.headers["content-type"], got.headers["prism-meta-x"]) == (b"12345", "text/plain", "1")
    across = {"source_namespace": "things", "source_key": "f/a", "destination_key": "k"}
    assert (await prism.client.post("/v1/namespaces/others/copy", json=across)).status_code == 200
    assert (await prism.client.delete(f"{IN}/buckets/second")).status_code == 409
    assert (await prism.client.delete(OBJECTS, params={"prefix": "f"})).status_code == 400
    assert (await prism.client.delete(OBJECTS, params={"prefix": "f/"})).json() == {"deleted": True}
    assert [one["key"] for one in (await prism.client.get(OBJECTS)).json()["objects"]] == ["fa"]
    assert (await prism.client.get(f"{IN}/usage")).json()["namespace"] == "things"
    soon = (await prism.client.get(f"{IN}/expiring", params={"within": "60s"})).json()
    assert [(one["bucket"], one["key"]) for one in soon["objects"]] == [("second", "copy")]
    assert (await prism.client.get(f"{IN}/expiring", params={"within": "soon"})).status_code == 400


async def test_presigning(prism: Served) -> None:
    await prism.put("k", b"1")
    for body in (
        {"key": "k"},
        {"key": "new", "method": "PUT", "content_type": "a/b"},
        {"key": "k", "method": "DELETE"},
    ):
        answer = (await prism.client.post(f"{IN}/presign", json=body)).json()
        assert answer["url"].startswith("http://s3.example/things/")
        assert answer["expires_at"] == "2026-11-24T13:00:00Z"
        assert answer["headers"] == ({"content-type": "a/b"} if "content_type" in body else {})
    record = prism.audit.records[-1]
    assert "Signature" not in str(record)


# Foreign pages.

EVIL, FRIEND = "http://evil.example", "https://app.example"
CROSS = {"sec-fetch-site": "cross-site"}
NAVIGATE = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(
            (host, 200)
            for host in ("localhost", "127.0.0.1:8080", "[::1]:80", "LOCALHOST.", "my.localhost", "127.9.9.9")
        ),
        *(
            (host, 403)
            for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[::2]")
        ),
        ("public.example:99", 200),
    ],
)
async def test_names_that_lead_to_an_open_loopback(tmp_path: Path, host: str, status: int) -> None:
    config = configured(tmp_path, server__http__public_url="http://public.example:99")
    async with served(config) as prism:
        for path in ("/", OBJECTS):
            assert (await prism.client.get(path, headers={"host": host})).status_code == status


@pytest.mark.parametrize(
    ("method", "headers", "by_default", "when_open"),
    [
        ("GET", {}, 200, 200),
        ("PUT", {}, 200, 200),
        ("GET", {"origin": EVIL}, 403, 200),
        ("PUT", {"origin": EVIL}, 403, 403),
        ("DELETE", {"origin": "null"}, 403, 403),
        ("PUT", {"origin": FRIEND}, 200, 200),
        ("PUT", {"origin": FRIEND} | CROSS, 200, 200),
        ("PUT", {"origin": "http://localhost:1"}, 403, 403),
        ("PUT", {"origin": "http://prism.localhost:80"}, 200, 200),
        ("GET", CROSS, 403, 200),
        ("GET", {"sec-fetch-site": "same-site"}, 403, 200),
        ("GET", {"sec-fetch-site": "same-origin"}, 200, 200),
        ("GET", {"sec-fetch-site": "none"}, 200, 200),
        ("GET", CROSS | NAVIGATE, 200, 200),
        ("PUT", CROSS | NAVIGATE, 403, 403),
        ("GET", CROSS | {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, 403, 200),
    ],
)
async def test_what_foreign_pages_may_make_a_browser_do(
    tmp_path: Path, method: str, headers: dict[str, str], by_default: int, when_open: int
) -> None:
    for mode, status in ({}, by_default), ({"auth__mode": "open"}, when_open):
        async with served(configured(tmp_path, server__cors_origins=FRIEND, **mode)) as prism:
            await prism.put("k", b"1")
            sent = {"host": "prism.localhost:80"} | headers
            answer = await prism.client.request(method, f"{OBJECTS}/k", headers=sent)
            assert answer.status_code == status
            assert (answer.headers.get("access-control-allow-origin") == FRIEND) == (headers.get("origin") == FRIEND)


async def test_cors(tmp_path: Path) -> None:
    async with served(configured(tmp_path, server__cors_origins=FRIEND)) as prism:
        await prism.put("k", b"1")
        asked_for = {
            "origin": FRIEND,
            "access-control-request-method": "PUT",
            "access-control-request-headers": "content-type,prism-meta-x",
        }
        preflight = await prism.client.options(f"{OBJECTS}/k", headers=asked_for)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, FRIEND)
        assert "PUT" in preflight.headers["access-control-allow-methods"]
        assert preflight.headers["access-control-allow-headers"] == "content-type,prism-meta-x"
        assert "access-control-allow-credentials" not in preflight.headers
        for path, status in ((f"{OBJECTS}/k", 200), (f"{OBJECTS}/absent", 404)):
            got = await prism.client.get(path, headers={"origin": FRIEND})
            assert (got.status_code, got.headers["access-control-allow-origin"]) == (status, FRIEND)
            assert (got.headers["vary"], "ETag" in got.headers["access-control-expose-headers"]) == ("Origin", True)
        assert (await prism.client.get(f"{OBJECTS}/k")).headers["vary"] == "Origin"
        foreign = await prism.client.options(f"{OBJECTS}/k", headers=asked_for | {"origin": EVIL})
        assert (foreign.status_code, "access-control-allow-origin" in foreign.headers) == (403, False)


async def test_cors_is_off_by_default(prism: Served) -> None:
    answer = await prism.client.get("/healthz")
    assert not [name for name in answer.headers if name.startswith("access-control") or name == "vary"]
    preflight = {"origin": f"http://127.0.0.1:{prism.port}", "access-control-request-method": "PUT"}
    assert (await prism.client.options(f"{OBJECTS}/k", headers=preflight)).status_code == 405


# Whatever is asked.


async def test_nothing_that_is_asked_is_an_internal_error(prism: Served) -> None:
    """Requests made from the description, well formed and not: each answer is as described, none is a 500."""
    described = (await prism.client.get("/openapi.json")).json()
    schema = schemathesis.openapi.from_dict(described)
    for operation in schema.get_all_operations():
        for case in _examples(operation.ok(), 12):
            made = case.as_transport_kwargs(base_url=prism.url)
            request = {name: made.get(name) for name in ("params", "headers", "json", "data")}
            body = request.pop("data")
            if isinstance(body, bytes | str):
                request["content"] = body
            try:
                answer = await prism.client.request(made["method"], made["url"], **request)
            except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeEncodeError, TypeError):
                continue  # nothing that this client can send
            assert answer.status_code < 500, (made, answer.text)
            assert answer.headers["x-request-id"]


def _examples(operation: Any, count: int) -> list[Any]:
    found: list[Any] = []

    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE))
    def collect(case: Any) -> None:
        found.append(case)

    collect()
    return found


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(path=st.binary(max_size=60), query=st.binary(max_size=40))
async def test_no_target_is_an_internal_error(prism: Served, path: bytes, query: bytes) -> None:
    target = b"".join(b"%c" % one if 0x21 <= one <= 0x7E else b"%%%02x" % one for one in path)
    parameters = b"".join(b"%c" % one if 0x21 <= one <= 0x7E else b"%%%02x" % one for one in query)
    for prefix in (b"/", OBJECTS.encode() + b"/", b"/v1/namespaces/"):
        answer = await asked(prism.port, prefix + target + b"?" + parameters)
        assert answer.status < 500
