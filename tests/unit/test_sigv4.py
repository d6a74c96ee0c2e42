"""Signature Version 4 against botocore: what one signs the other accepts, whatever is in the key, and nothing else."""

import hashlib
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from botocore.auth import UNSIGNED_PAYLOAD, S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.utils import percent_encode
from hypothesis import given, settings
from hypothesis import strategies as st

from prism.blob.sigv4 import Chain, Credential, Signable, claim_of, presign, query_pairs, verify
from prism.errors import ErrorCode, PrismError

NOW = datetime.now(UTC)
PAIR = Credential("an/access=key", "a secret+/=")
HOST = "s3.example.com:8333"
HOSTILE = [
    "a//b",
    "/a",
    "a/../b",
    "./a",
    "a%2Fb",
    "a+b c",
    "é😀",
    "a/",
    "?x=y&z#",
    "~-._!*'()",
    "\x01\x7f\r\n",
    "%",
    "=&;,",
]
keys = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
names = st.text("abcXYZ-_.~ é&=+%/", min_size=1, max_size=12).filter(lambda name: not name.startswith("X-Amz"))
queries = st.dictionaries(names, st.text(max_size=20).filter(lambda t: not any(0xD800 <= ord(c) < 0xE000 for c in t)))
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


def botocore_request(method: str, key: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> AWSRequest:
    url = f"http://{HOST}/bucket/{percent_encode(key, safe='/-_.~')}"
    return AWSRequest(method=method, url=url, params=query, headers=headers, data=body)


def sent(request: AWSRequest) -> Signable:
    """What a server sees of a request that botocore prepared."""
    prepared = request.prepare()
    assert prepared.url is not None
    raw = prepared.url.partition(HOST)[2]
    path, _, query = raw.partition("?")
    headers = {name.lower(): v.decode() if isinstance(v, bytes) else v for name, v in prepared.headers.items()}
    return Signable(request.method, path, query_pairs(query.encode()), {"host": HOST, **headers})


def signed_by_header(method: str, key: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Signable:
    request = botocore_request(method, key, query, headers, body)
    S3SigV4Auth(Credentials(PAIR.access_key, PAIR.secret), "s3", "us-east-1").add_auth(request)
    return sent(request)


def signed_by_query(method: str, key: str, query: dict[str, str], headers: dict[str, str], seconds: int) -> Signable:
    request = botocore_request(method, key, query, headers, b"")
    signer = S3SigV4QueryAuth(Credentials(PAIR.access_key, PAIR.secret), "s3", "us-east-1", expires=seconds)
    signer.add_auth(request)
    return sent(request)


def of_url(method: str, url: str, headers: dict[str, str] | None = None) -> Signable:
    host, _, rest = url.partition("://")[2].partition("/")
    path, _, query = rest.partition("?")
    return Signable(method, f"/{path}", query_pairs(query.encode()), {"host": host, **(headers or {})})


def check(request: Signable, now: datetime | None = None, pair: Credential = PAIR) -> Chain:
    claim = claim_of(request)
    assert claim is not None
    return verify(claim, pair, request, now or datetime.now(UTC))


def refusal(request: Signable, now: datetime | None = None, pair: Credential = PAIR) -> tuple[ErrorCode, str]:
    with pytest.raises(PrismError) as refused:
        check(request, now, pair)
    assert PAIR.secret not in str(refused.value)
    return refused.value.code, refused.value.context.get("s3_code", "")


def changed(request: Signable, **parts: object) -> Signable:
    return Signable(**{field: parts.get(field, getattr(request, field)) for field in Signable.__struct_fields__})  # type: ignore[arg-type]


class TestAgainstBotocore:
    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from(["GET", "PUT", "DELETE", "HEAD"]), keys, queries, values, st.binary(max_size=50))
    def test_what_it_signs_by_header_is_accepted(
        self, method: str, key: str, query: dict[str, str], value: str, body: bytes
    ) -> None:
        headers = {"x-amz-meta-note": value, "Content-Type": "text/plain"}
        assert check(signed_by_header(method, key, query, headers, body))

    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from(["GET", "PUT", "DELETE"]), keys, queries, st.integers(1, 3600))
    def test_what_it_signs_by_query_is_accepted(
        self, method: str, key: str, query: dict[str, str], seconds: int
    ) -> None:
        assert check(signed_by_query(method, key, query, {"content-type": "image/png"}, seconds))

    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from(["GET", "PUT", "DELETE"]), keys, queries)
    def test_our_url_is_what_it_signs(self, method: str, key: str, query: dict[str, str]) -> None:
        theirs = dict(signed_by_query(method, key, query, {}, 600).query)
        at = datetime.strptime(theirs[b"X-Amz-Date"].decode(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        url = presign(
            PAIR, method, f"http://{HOST}", f"/bucket/{key}", query=query, headers={}, expires_seconds=600, now=at
        )
        ours = of_url(method, url)
        assert sorted(ours.query) == sorted(theirs.items())
        assert check(ours, at)

    def test_it_sees_spaces_in_header_values_as_we_do(self) -> None:
        assert check(signed_by_header("PUT", "k", {}, {"x-amz-meta-note": "  a   b  "}, b""))

    def test_a_sub_resource_without_a_value(self) -> None:
        request = signed_by_header("GET", "k", {"acl": ""}, {}, b"")
        assert check(changed(request, query=query_pairs(b"acl")))

    def test_an_unsigned_payload(self) -> None:
        request = botocore_request("PUT", "k", {}, {"Content-MD5": "hBotaJrYa9FhFEdFPCLG/A=="}, b"body")
        request.context["client_config"] = Config(s3={"payload_signing_enabled": False})
        request.url = request.url.replace("http:", "https:")
        S3SigV4Auth(Credentials(PAIR.access_key, PAIR.secret), "s3", "us-east-1").add_auth(request)
        seen = sent(request)
        assert seen.headers["x-amz-content-sha256"] == UNSIGNED_PAYLOAD
        assert check(seen)


class TestWhatIsNotAsSigned:
    @pytest.fixture
    def by_header(self) -> Signable:
        return signed_by_header("PUT", "key", {"a": "1"}, {"content-type": "text/plain"}, b"body")

    @pytest.fixture
    def by_query(self) -> Signable:
        url = presign(
            PAIR, "PUT", f"http://{HOST}", "/bucket/key",
            query={"x-prism-upload": "u"}, headers={"content-type": "text/plain"}, expires_seconds=60, now=NOW,
        )  # fmt: skip
        return of_url("PUT", url, {"content-type": "text/plain"})

    @pytest.mark.parametrize("kind", ["by_header", "by_query"])
    def test_every_part_is_covered(self, kind: str, request: pytest.FixtureRequest) -> None:
        signed: Signable = request.getfixturevalue(kind)
        assert check(signed, NOW)
        others = [
            changed(signed, method="GET"),
            changed(signed, raw_path="/bucket/other"),
            changed(signed, raw_path="/other/key"),
            changed(signed, query=[*signed.query, (b"b", b"2")]),
            changed(signed, query=[(n, v + b"x" if n in {b"a", b"x-prism-upload"} else v) for n, v in signed.query]),
            changed(signed, headers={**signed.headers, "host": "elsewhere"}),
            changed(signed, headers={**signed.headers, "content-type": "text/html"}),
            changed(signed, headers={n: v for n, v in signed.headers.items() if n != "content-type"}),
        ]
        for other in others:
            assert refusal(other, NOW) == (ErrorCode.SIGNATURE_MISMATCH, "")
        assert refusal(signed, NOW, Credential(PAIR.access_key, "another")) == (ErrorCode.SIGNATURE_MISMATCH, "")

    @pytest.mark.parametrize("kind", ["by_header", "by_query"])
    def test_headers_that_change_the_meaning_must_be_signed(self, kind: str, request: pytest.FixtureRequest) -> None:
        signed: Signable = request.getfixturevalue(kind)
        for name in ("x-amz-copy-source", "x-amz-meta-more", "x-amz-acl"):
            other = changed(signed, headers={**signed.headers, name: "/a/b"})
            assert refusal(other, NOW) == (ErrorCode.PERMISSION_DENIED, "AccessDenied")

    def test_host_must_be_signed(self) -> None:
        request = signed_by_header("GET", "k", {}, {}, b"")
        header = request.headers["authorization"].replace("SignedHeaders=host;", "SignedHeaders=")
        other = changed(request, headers={**request.headers, "authorization": header})
        assert refusal(other) == (ErrorCode.PERMISSION_DENIED, "AccessDenied")

    def test_the_path_may_be_encoded_otherwise_but_not_be_another(self) -> None:
        request = signed_by_header("GET", "a~b/ c", {}, {}, b"")
        assert check(changed(request, raw_path="/bucket/a%7Eb/%20c"))
        assert refusal(changed(request, raw_path="/bucket/a~b%2F%20%20c"))[0] is ErrorCode.SIGNATURE_MISMATCH

    def test_other_regions_are_told_the_right_one(self) -> None:
        request = signed_by_header("GET", "k", {}, {}, b"")
        with pytest.raises(PrismError) as refused:
            check(request, pair=Credential(PAIR.access_key, PAIR.secret, "eu-west-1"))
        assert refused.value.context == {"s3_code": "AuthorizationHeaderMalformed", "region": "eu-west-1"}


class TestTime:
    def test_a_header_is_good_for_fifteen_minutes_either_way(self) -> None:
        request = signed_by_header("GET", "k", {}, {}, b"")
        at = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        for minutes in (-15, 15):
            assert check(request, at + timedelta(minutes=minutes))
            beyond = at + timedelta(minutes=minutes, seconds=minutes)
            assert refusal(request, beyond) == (ErrorCode.PERMISSION_DENIED, "RequestTimeTooSkewed")

    def test_a_url_ends_with_its_last_second(self) -> None:
        at = NOW.replace(microsecond=0)
        url = presign(PAIR, "GET", f"http://{HOST}", "/b/k", query={}, headers={}, expires_seconds=60, now=at)
        request = of_url("GET", url)
        assert check(request, at + timedelta(seconds=59, milliseconds=999))
        assert refusal(request, at + timedelta(seconds=60)) == (ErrorCode.PERMISSION_DENIED, "AccessDenied")
        assert refusal(request, at - timedelta(minutes=16)) == (ErrorCode.PERMISSION_DENIED, "AccessDenied")

    def test_nobody_signs_for_longer_than_an_hour(self) -> None:
        assert refusal(signed_by_query("GET", "k", {}, {}, 3601))[1] == "AuthorizationQueryParametersError"


class TestMalformed:
    @pytest.mark.parametrize(
        ("header", "code"),
        [
            ("AWS ak:signature", "InvalidRequest"),
            ("Bearer token", "InvalidRequest"),
            ("AWS4-HMAC-SHA256", "AuthorizationHeaderMalformed"),
            ("AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host", "AuthorizationHeaderMalformed"),
            ("AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host, Signature=x", "AuthorizationHeaderMalformed"),
            ("AWS4-HMAC-SHA256 Credential=a/1/r/s3/aws4_request, SignedHeaders=host, Signature=x",
             "AuthorizationHeaderMalformed"),
            ("AWS4-HMAC-SHA256 Credential=a/20261124/r/ec2/aws4_request, SignedHeaders=host, Signature=x",
             "AuthorizationHeaderMalformed"),
        ],
    )  # fmt: skip
    def test_authorization(self, header: str, code: str) -> None:
        headers = {"authorization": header, "x-amz-date": "20261124T000000Z", "x-amz-content-sha256": "x", "host": "h"}
        assert refusal(Signable("GET", "/", [], headers)) == (ErrorCode.INVALID_ARGUMENT, code)

    def test_a_query_that_lacks_repeats_or_misstates_a_part(self) -> None:
        url = presign(PAIR, "GET", f"http://{HOST}", "/b/k", query={}, headers={}, expires_seconds=60, now=NOW)
        good = of_url("GET", url)
        for name, _ in good.query:
            if name not in {b"X-Amz-Algorithm", b"X-Amz-Signature"}:
                less = changed(good, query=[pair for pair in good.query if pair[0] != name])
                assert refusal(less, NOW)[1] == "AuthorizationQueryParametersError"
            twice = changed(good, query=[*good.query, (name, b"x")])
            assert refusal(twice, NOW)[1] == "AuthorizationQueryParametersError"
        for name, value in ((b"X-Amz-Expires", "٣".encode()), (b"X-Amz-Expires", b"0"), (b"X-Amz-Date", b"today")):
            other = changed(good, query=[(n, value if n == name else v) for n, v in good.query])
            assert refusal(other, NOW)[1] == "AuthorizationQueryParametersError"

    def test_two_signatures_at_once(self) -> None:
        request = signed_by_header("GET", "k", {"X-Amz-Signature": "x"}, {}, b"")
        assert refusal(request) == (ErrorCode.INVALID_ARGUMENT, "InvalidArgument")

    def test_a_url_of_the_old_version_is_told_what_to_use(self) -> None:
        request = Signable("GET", "/b/k", [(b"AWSAccessKeyId", b"ak"), (b"Signature", b"x"), (b"Expires", b"1")], {})
        assert refusal(request) == (ErrorCode.INVALID_ARGUMENT, "InvalidRequest")

    def test_nothing_claimed_is_no_error(self) -> None:
        assert claim_of(Signable("GET", "/b/k", [(b"prefix", b"x")], {"host": HOST})) is None

    def test_a_signature_that_is_no_ascii(self) -> None:
        request = signed_by_header("GET", "k", {}, {}, b"")
        header = request.headers["authorization"][:-64] + "é" * 64
        assert refusal(changed(request, headers={**request.headers, "authorization": header}))[0] is (
            ErrorCode.SIGNATURE_MISMATCH
        )


class TestURL:
    def test_dots_survive_clients_that_resolve_them(self) -> None:
        url = presign(PAIR, "GET", "http://h", "/b/a/../.x/./y..", query={}, headers={}, expires_seconds=9, now=NOW)
        assert urlsplit(url).path == "/b/a/%2E%2E/.x/%2E/y.."
        assert check(of_url("GET", url), NOW)

    @pytest.mark.parametrize(
        ("base", "host"), [("http://h:80", "h"), ("https://h:443/", "h"), ("http://h:443", "h:443")]
    )
    def test_a_default_port_is_left_out_as_clients_do(self, base: str, host: str) -> None:
        url = presign(PAIR, "GET", base, "/b/k", query={}, headers={}, expires_seconds=9, now=NOW)
        assert urlsplit(url).netloc == host

    def test_secrets_do_not_show(self) -> None:
        request = signed_by_header("GET", "k", {}, {}, b"")
        shown = repr([PAIR, claim_of(request), check(request)])
        assert PAIR.secret not in shown
        assert request.headers["authorization"][-64:] not in shown


class TestChain:
    """The worked example of AWS: a 66,560 byte object in chunks of 64 KiB."""

    def test_the_example_of_the_documentation(self) -> None:
        pair = Credential("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
        headers = {
            "host": "s3.amazonaws.com",
            "x-amz-date": "20130524T000000Z",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
            "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            "content-encoding": "aws-chunked",
            "x-amz-decoded-content-length": "66560",
            "content-length": "66824",
            "authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
            "SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;"
            "x-amz-decoded-content-length;x-amz-storage-class,"
            "Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        }
        request = Signable("PUT", "/examplebucket/chunkObject.txt", [], headers)
        chain = check(request, datetime(2013, 5, 24, tzinfo=UTC), pair)
        pieces = [
            (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
            (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
            (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
        ]
        for size, signature in pieces:
            with pytest.raises(PrismError):
                chain.chunk(hashlib.sha256(b"b" * (size + 1)).hexdigest(), signature)
            chain.chunk(hashlib.sha256(b"a" * size).hexdigest(), signature)
