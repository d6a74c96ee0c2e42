"""The order of an examination: what nothing works without first, then each ability by itself, then the probes go."""

import ssl
from collections.abc import Callable, Iterable
from datetime import datetime
from urllib.parse import urlsplit

import httpx

from ..blob import BlobStore, open_blob
from ..blob.driver import Signed
from ..blob.found import Abilities
from ..config import Config, LocalStore, MemoryStore, NamespaceConfig, RemoteStore, StoreConfig
from ..errors import PrismError
from . import linking, storing
from .diagnosis import Diagnosis, Finding, Outcome
from .probing import Answer, Check, Probes, Send

__all__ = ["examine", "examine_store", "plain_client"]

_FIRST: tuple[tuple[str, Check], ...] = (("reach", storing.reach), ("clock", storing.clock), ("write", storing.rights))
_THEN: tuple[tuple[str, Check], ...] = (
    ("conditional write", storing.conditional_put),
    ("conditional delete", storing.conditional_delete),
    ("copy", storing.copy),
    ("multipart", storing.multipart),
    ("presigned GET", linking.reading),
    ("presigned PUT", linking.binding),
    ("browsers", linking.browsers),
    ("versioning", storing.bucket),
)
_ANSWER_SECONDS = 15.0
_ANSWER_BYTES = 2**20


async def examine(
    config: Config,
    space: NamespaceConfig,
    *,
    now: Callable[[], datetime],
    new_id: Callable[[], str],
    origins: Iterable[str] = (),
) -> Diagnosis:
    """Try everything on one namespace's store. Raises nothing that a store could cause."""
    try:
        store = await _opened(space)
    except PrismError as error:
        return _undone(space, Finding(check="open", outcome=Outcome.FAILED, said=error.message))
    try:
        async with plain_client(space.store) as client:
            probes = Probes(
                space, store, _sender(client), now=now, new_id=new_id, origins=origins or config.server.cors_origins
            )
            return await examine_store(probes)
    finally:
        await store.close()


async def _opened(space: NamespaceConfig) -> BlobStore:
    """The store with the driver's every power, those included that its kind usually lacks."""
    store = await open_blob(space.store, name=space.name)
    usual = store.capabilities
    await store.close()
    wanted = Abilities(
        conditional_put=usual.conditional_put,
        conditional_delete=True,
        copy=usual.copy,
        multipart=usual.multipart,
        sign=usual.sign,
        binds=tuple(usual.binds | usual.may_bind),
    )
    return await open_blob(space.store, name=space.name, found=wanted)


async def examine_store(probes: Probes) -> Diagnosis:
    """Try everything on an opened store."""
    findings = [_transport(probes.space.store)]
    for name, check in _FIRST:
        if _failed(findings):
            findings.append(Finding(check=name, outcome=Outcome.SKIPPED, said="not tried"))
        else:
            findings += await probes.attempt(name, check)
    whole = not _failed(findings)
    for name, check in _THEN if whole else ():
        findings += await probes.attempt(name, check)
    findings += await probes.attempt("delete", Probes.remove)
    return Diagnosis(
        namespace=probes.space.name,
        store=_place(probes.space.store),
        findings=tuple(findings),
        abilities=_abilities(probes) if whole else None,
    )


def _failed(findings: Iterable[Finding]) -> bool:
    return any(finding.outcome is Outcome.FAILED for finding in findings)


def _undone(space: NamespaceConfig, why: Finding) -> Diagnosis:
    return Diagnosis(namespace=space.name, store=_place(space.store), findings=(why,))


def _abilities(probes: Probes) -> Abilities:
    """What was found; a check that failed half-way found that it does not work."""
    able = probes.able
    return Abilities(
        conditional_put=able.get("conditional_put", False),
        conditional_delete=able.get("conditional_delete", False),
        copy=able.get("copy", False),
        multipart=able.get("multipart", False),
        sign=able.get("sign", False),
        binds=tuple(sorted(probes.binds)),
    )


def _place(store: StoreConfig) -> str:
    """Where the bytes lie, for people."""
    match store:
        case LocalStore():
            return str(store.root)
        case MemoryStore():
            return "memory"
        case _:
            return f"{store.endpoint or 'the cloud'}/{store.bucket}/{store.prefix}"


def _transport(store: StoreConfig) -> Finding:
    """Whether what is sent can be read on the way."""
    if not isinstance(store, RemoteStore):
        return Finding(check="TLS", outcome=Outcome.OK, said="no network")
    if store.use_ssl:
        own = "" if store.ca_file is None else f", checked against {store.ca_file}"
        return Finding(check="TLS", outcome=Outcome.OK, said=f"on{own}")
    host = urlsplit(store.endpoint).hostname or ""
    if host in {"localhost", "127.0.0.1", "::1"}:
        return Finding(check="TLS", outcome=Outcome.OK, said="off, on this machine only")
    advice = "use TLS (use_ssl: true) unless the network between is your own"
    return Finding(
        check="TLS", outcome=Outcome.NOTE, said=f"off: bytes and metadata pass to {host} in the clear", advice=advice
    )


def plain_client(store: StoreConfig) -> httpx.AsyncClient:
    """A client that knows no more than a URL and its headers."""
    ca_file = store.ca_file if isinstance(store, RemoteStore) else None
    trusted = ssl.create_default_context(cafile=str(ca_file) if ca_file is not None else None)
    return httpx.AsyncClient(verify=trusted, timeout=_ANSWER_SECONDS, trust_env=False, follow_redirects=False)


def _sender(client: httpx.AsyncClient) -> Send:
    async def send(method: str, signed: Signed, body: bytes | None) -> Answer:
        try:
            answer = await client.request(method, signed.url, headers=dict(signed.headers), content=body)
        except httpx.HTTPError as error:
            raise ConnectionError(type(error).__name__) from None  # the library's text holds the URL
        return Answer(answer.status_code, dict(answer.headers), answer.content[:_ANSWER_BYTES])

    return send
