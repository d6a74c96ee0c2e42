"""Checks of presigned URLs, as a client without any library of the store's sees them: the host that they name, what
they let through, what they hold the sender to, and what a browser is allowed."""

import base64
import hashlib
from collections.abc import Mapping
from urllib.parse import urlsplit

import google_crc32c
import msgspec

from ..blob.driver import Bound, Signed
from ..config import S3Store
from ..model import Bindable
from .diagnosis import Finding, Outcome
from .probing import Probes

__all__ = ["binding", "browsers", "reading"]

_LASTING = 300
_RIGHT, _WRONG = b"right bytes", b"wrong bytes"
_COPIES_SAID = "nothing binds a URL here: the server takes an x-amz-copy-source that nobody signed"
_COPIES_ADVICE = (
    "Prism gives URLs of staging keys only; let the credentials reach this bucket alone, as whoever holds an upload "
    "URL can copy to its key what they can read"
)
_HOST_ADVICE = "set public_endpoint to the host name under which clients reach the store"


async def reading(probes: Probes) -> list[Finding]:
    """A GET by URL, whole, in part and altered."""
    probes.able["sign"] = False
    if not probes.store.capabilities.sign:
        said, advice = "the store signs no URLs", "nothing to do: URLs point to Prism's own S3 endpoint"
        return [Finding(check="presigned GET", outcome=Outcome.LACKS, said=said, advice=advice)]
    key = probes.key("get")
    await probes.put(key, _RIGHT)
    signed = await probes.store.sign_get(key, probes.now(), _LASTING, "text/x-doctor", None)
    host = urlsplit(signed.url).netloc
    try:
        whole = await probes.send("GET", signed, None)
    except OSError as error:
        said = f"nothing answers at {host}, which URLs name ({type(error).__name__})"
        return [Finding(check="signing host", outcome=Outcome.FAILED, said=said, advice=_HOST_ADVICE)]
    findings = [Finding(check="signing host", outcome=Outcome.OK, said=f"URLs name {host}")]
    if whole.status != 200 or whole.body != _RIGHT:
        said = f"a GET by URL is answered {whole.status}"
        return [*findings, Finding(check="presigned GET", outcome=Outcome.FAILED, said=said, advice=_HOST_ADVICE)]
    ranged = await probes.send("GET", Signed(signed.url, {**signed.headers, "range": "bytes=6-8"}), None)
    altered = await probes.send("GET", Signed(_altered(signed.url), signed.headers), None)
    said = "whole" if ranged.status != 206 else "whole and in part"
    if whole.headers.get("content-type", "").startswith("text/x-doctor"):
        said += ", with response headers"
    probes.able["sign"] = True
    findings.append(Finding(check="presigned GET", outcome=Outcome.OK, said=said))
    if altered.good:
        said, advice = "an altered URL is accepted", "this server verifies no signatures: for trials only"
        findings.append(Finding(check="signatures", outcome=Outcome.FAILED, said=said, advice=advice))
    else:
        findings.append(Finding(check="signatures", outcome=Outcome.OK, said="an altered URL is refused"))
    return findings


def _altered(url: str) -> str:
    """The same URL with one sign of its signature changed."""
    at = max(url.lower().rfind(name) + len(name) for name in ("signature=", "sig=") if name in url.lower())
    return f"{url[:at]}{'0' if url[at] != '0' else '1'}{url[at + 1 :]}"


class _Trial(msgspec.Struct, frozen=True):
    """How one bound fact is tried: what is signed, and what a sender who breaks it sends."""

    fact: Bindable
    bound: Bound
    body: bytes = _WRONG
    headers: Mapping[str, str] = {}


def _trials() -> list[_Trial]:
    crc32c = base64.b64encode(google_crc32c.value(_RIGHT).to_bytes(4, "big")).decode()
    return [
        _Trial("create_only", Bound(create_only=True), _RIGHT),
        _Trial("size", Bound(size_bytes=len(_RIGHT)), _RIGHT + b"!", {"content-length": str(len(_RIGHT) + 1)}),
        _Trial("content_type", Bound(content_type="text/plain"), _RIGHT, {"content-type": "text/html"}),
        _Trial("metadata", Bound(metadata={"prism-key": "doctor"}), _RIGHT, {"*": ""}),
        _Trial("sha256", Bound(sha256=hashlib.sha256(_RIGHT).hexdigest())),
        _Trial("crc32c", Bound(crc32c=crc32c)),
        _Trial("md5", Bound(md5=hashlib.md5(_RIGHT, usedforsecurity=False).hexdigest())),
    ]


async def binding(probes: Probes) -> list[Finding]:
    """A PUT by URL, and what a URL can be bound to on this server."""
    if not probes.able.get("sign"):
        return []
    key = probes.key("put")
    plain = await probes.store.sign_put(key, probes.now(), _LASTING, Bound())
    answer = await probes.send("PUT", plain, _RIGHT)
    if not answer.good or await probes.read(key) != _RIGHT:
        said = f"a PUT by URL is answered {answer.status}"
        return [Finding(check="presigned PUT", outcome=Outcome.FAILED, said=said, advice=_HOST_ADVICE)]
    offered = probes.store.capabilities.binds
    broken = [trial.fact for trial in _trials() if trial.fact in offered and not await _holds(probes, trial)]
    findings = [Finding(check="presigned PUT", outcome=Outcome.OK, said="accepted")]
    if offered and await _copies_unsigned(probes, key):
        return [*findings, Finding(check="bound PUT", outcome=Outcome.NOTE, said=_COPIES_SAID, advice=_COPIES_ADVICE)]
    probes.binds = set(offered) - set(broken)
    held = ", ".join(sorted(probes.binds)) or "nothing"
    outcome = Outcome.OK if not broken else Outcome.NOTE
    said = f"URLs can be bound to: {held}"
    if broken:
        said += f"; not enforced here: {', '.join(sorted(broken))}"
    advice = "Prism checks what the store does not, when it recognises the bytes" if len(probes.binds) < 6 else ""
    return [*findings, Finding(check="bound PUT", outcome=outcome, said=said, advice=advice)]


async def _copies_unsigned(probes: Probes, source: str) -> bool:
    """Whether a sender can make the store copy another object, whatever his URL is bound to."""
    if not isinstance(probes.space.store, S3Store):
        return False
    key = probes.key("unsigned")
    signed = await probes.store.sign_put(key, probes.now(), _LASTING, Bound(create_only=True))
    headers = {**signed.headers, "x-amz-copy-source": f"/{probes.space.store.bucket}/{source}"}
    answer = await probes.send("PUT", Signed(signed.url, headers), b"")
    return answer.good and await probes.read(key) == _RIGHT


async def _holds(probes: Probes, trial: _Trial) -> bool:
    """Whether the right request passes and the wrong one does not."""
    key = probes.key(f"bind-{trial.fact}")
    signed = await probes.store.sign_put(key, probes.now(), _LASTING, trial.bound)
    if trial.fact == "create_only":
        first, second = [await probes.send("PUT", signed, _RIGHT) for _ in range(2)]
        return first.good and not second.good
    wrong = await probes.send("PUT", Signed(signed.url, _broken(signed.headers, trial)), trial.body)
    if wrong.good:
        return False
    return (await probes.send("PUT", signed, _RIGHT)).good


def _broken(headers: Mapping[str, str], trial: _Trial) -> Mapping[str, str]:
    """The headers of a sender who breaks the bond; `*` leaves the metadata out."""
    if "*" in trial.headers:
        return {name: value for name, value in headers.items() if "meta-" not in name.lower()}
    kept = {name: value for name, value in headers.items() if name.lower() not in trial.headers}
    return {**kept, **trial.headers}


async def browsers(probes: Probes) -> list[Finding]:
    """Whether pages may send to the store (CORS preflight)."""
    if not probes.able.get("sign"):
        return []
    key = probes.key("browser")
    signed = await probes.store.sign_put(key, probes.now(), _LASTING, Bound(content_type="text/plain"))
    findings = []
    for origin in probes.origins or ("https://app.example",):
        asked = {
            "origin": origin,
            "access-control-request-method": "PUT",
            "access-control-request-headers": ",".join(sorted(name.lower() for name in signed.headers)),
        }
        answer = await probes.send("OPTIONS", Signed(signed.url, asked), None)
        allowed = answer.headers.get("access-control-allow-origin", "")
        if answer.good and allowed in ("*", origin):
            findings.append(Finding(check="browsers", outcome=Outcome.OK, said=f"pages of {origin} may send"))
        else:
            said = f"pages of {origin} may not send to the store"
            advice = "allow the origin with PUT and GET in the bucket's CORS rule, if browsers are to upload directly"
            findings.append(Finding(check="browsers", outcome=Outcome.NOTE, said=said, advice=advice))
    return findings
