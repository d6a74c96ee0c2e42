"""Azure's own library: what obstore lacks, one request per call, in threads, failures in the port's words.

The client is made when it is first needed and repeats nothing. What the store answered is never shown, only its status
and its own name of the error.
"""

import asyncio
import base64
import binascii
import contextlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from ..config import AzureStore
from ..errors import ErrorCode, PrismError
from .azure_feed import Feed, FeedStopped
from .azure_sas import AccountKey, DelegatedKey, SasKey
from .driver import AlreadyExists
from .obstores import answered, quoted
from .threads import Threads

__all__ = [
    "CONNECT_SECONDS",
    "Requests",
    "StoreAnswered",
    "credential_of",
    "default_chain",
    "pinned",
    "refusal",
    "url_of",
]

T = TypeVar("T")
_VERSION = "2023-11-03"
_LISTING_VERSION = "2026-02-06"
"""The first version of the service whose listings begin at a name (`startFrom`)."""
CONNECT_SECONDS = 5.0
_MOST_THREADS = 32
_SCOPE = "https://storage.azure.com/.default"
_KEY_LASTS = timedelta(hours=12)
_SKEW = timedelta(minutes=5)
_LOCAL = ("127.", "localhost", "[")


class StoreAnswered(Exception):
    """An error answer whose meaning depends on what was asked: the store's own name of it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def url_of(endpoint: str, account: str) -> str:
    """Where an account is served. Emulators on this machine have it in the path; it may be left away there."""
    if not endpoint:
        return f"https://{account}.blob.core.windows.net"
    scheme, _, host = endpoint.partition("://")
    if host.startswith(_LOCAL) and "/" not in host:
        return f"{scheme}://{host}/{account}"
    return endpoint


def credential_of(store: AzureStore) -> AccountKey | None:
    """The account's key; None for the default chain. INVALID_ARGUMENT for a key that is not base64."""
    if store.secret_key is None:
        return None
    try:
        return AccountKey(base64.b64decode(store.secret_key.reveal(), validate=True))
    except binascii.Error:
        what = "the secret_key of an azure namespace is the account's key: base64"
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"bucket {store.bucket!r}: {what}") from None


def default_chain() -> Any:
    """Variables, workload and managed identity, the cloud's command line: whatever this machine has."""
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()


class Requests:
    """The requests of one container. `chain` stands for the default credential chain (tests give their own)."""

    def __init__(self, store: AzureStore, url: str, key: AccountKey | None, chain: Callable[[], Any]) -> None:
        self._store = store
        self._url = url
        self._key = key
        self._chain = chain
        self._threads = Threads(min(store.max_connections, _MOST_THREADS), "prism-azure")
        self._feeding = Threads(store.max_connections, "prism-azure-body")
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}
        self._delegated: DelegatedKey | None = None
        self._renewing = asyncio.Lock()

    @property
    def threads(self) -> Threads:
        """For work beside the requests that takes a thread, too."""
        return self._threads

    async def ask(self, call: Callable[[Any], T], own_meaning: frozenset[str] = frozenset()) -> T:
        """What `call` makes of the container's client, in a thread. `own_meaning` are codes of errors that come out as
        `StoreAnswered`."""
        return await self._threads.run(self._send, "container", call, own_meaning)

    async def feed(self, call: Callable[[Any], T], body: Feed) -> T:
        """As `ask`, for a request whose body comes piece by piece: a slow one keeps no thread from other requests. What
        the body's own stream raised comes out as it is."""
        try:
            return await self._feeding.run(self._send, "container", call, frozenset())
        except FeedStopped:
            if body.error is None:
                raise
        finally:
            await body.stop()
        raise body.error

    async def ask_for_pages(self, call: Callable[[Any], T]) -> T:
        """What `call` makes of a client whose listings begin at names. `StoreAnswered` if the store has none such."""
        return await self._threads.run(self._send, "listing", call, frozenset({"InvalidHeaderValue"}))

    async def delete_pinned(self, key: str, etag: str) -> None:
        """Delete these bytes; `EtagMismatch` when others lie there, `NotFound` or `EtagMismatch` when none do."""
        await self.ask(lambda container: container.get_blob_client(key).delete_blob("include", **pinned(etag)))

    async def token(self) -> dict[str, Any]:
        """A token of the default chain, as obstore takes it; the chain keeps and renews it."""
        return await self._threads.run(self._token)

    async def signing_key(self, now: datetime, lasting_seconds: int) -> SasKey:
        """The account's key, or one that the store has given and that lasts long enough."""
        if self._key is not None:
            return self._key
        until = now + timedelta(seconds=lasting_seconds) + _SKEW
        async with self._renewing:
            if self._delegated is None or self._delegated.expires_at < until:
                self._delegated = await self._threads.run(self._send, "service", _delegation(now), frozenset())
            return self._delegated

    async def now(self) -> datetime:
        """The store's clock."""
        seen: list[str] = []
        await self.ask(lambda container: container.get_container_properties(raw_response_hook=_date_into(seen)))
        return parsedate_to_datetime(seen[0]).astimezone(UTC)

    async def versions(self) -> bool | None:
        """Whether the account keeps versions; None when nothing in the container tells."""
        blob = await self._told("container", _first_with_version)
        return None if blob is None else blob.version_id is not None

    async def locks(self) -> bool | None:
        """Whether blobs of the container may not be deleted for a time."""
        found = await self._told("container", lambda container: container.get_container_properties())
        return None if found is None else bool(found.has_immutability_policy or found.has_legal_hold)

    async def keeps_deleted_seconds(self) -> int | None:
        """How long the account keeps what was deleted."""
        found = await self._told("service", lambda service: service.get_service_properties())
        policy = found and found.get("delete_retention_policy")
        if policy is None:
            return None
        return 86_400 * (policy.days or 0) if policy.enabled else 0

    async def _told(self, kind: str, call: Callable[[Any], T]) -> T | None:
        """An answer, or None where the credentials may not ask, or the store does not know the question."""
        try:
            return await self._threads.run(self._send, kind, call, frozenset())
        except PrismError:
            return None

    async def close(self) -> None:
        """Wait for what is under way, then let the connections go."""
        await self._feeding.close()
        await self._threads.close()
        for made in self._made.values():
            made.close()

    def _send(self, kind: str, call: Callable[[Any], T], own_meaning: frozenset[str]) -> T:
        from azure.core.exceptions import AzureError

        try:
            return call(self._client(kind))
        except AzureError as error:
            known = _translated(error, self._store.bucket, own_meaning)
        raise known

    def _token(self) -> dict[str, Any]:
        from azure.core.exceptions import AzureError

        try:
            token = self._client("chain").get_token(_SCOPE)
        except AzureError as error:
            known = _translated(error, self._store.bucket, frozenset())
        else:
            return {"token": token.token, "expires_at": datetime.fromtimestamp(token.expires_on, UTC)}
        raise known

    def _client(self, kind: str) -> Any:
        with self._lock:
            if kind not in self._made:
                self._make()
            return self._made[kind]

    def _make(self) -> None:
        import requests
        from azure.core.pipeline.transport import RequestsTransport
        from azure.storage.blob import BlobServiceClient, ContainerClient

        store = self._store
        session = requests.Session()
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=_MOST_THREADS + store.max_connections)
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter)
        verify = True if store.ca_file is None else str(store.ca_file)
        bounds = {"connection_timeout": CONNECT_SECONDS, "read_timeout": store.request_seconds}
        self._made["session"] = session
        transport = RequestsTransport(session=session, session_owner=False, connection_verify=verify, **bounds)
        credential: Any
        if self._key is None:
            self._made["chain"] = credential = self._chain()
        else:
            credential = {"account_name": store.access_key, "account_key": self._key.text}
        settings: dict[str, Any] = {"credential": credential, "transport": transport, **bounds}
        settings |= {"retry_total": 0, "permit_redirects": False}
        made = self._made
        made["container"] = ContainerClient(self._url, store.bucket, api_version=_VERSION, **settings)
        made["listing"] = ContainerClient(self._url, store.bucket, api_version=_LISTING_VERSION, **settings)
        made["service"] = BlobServiceClient(self._url, api_version=_VERSION, **settings)


def pinned(etag: str) -> dict[str, Any]:
    """What makes one of the library's calls hold for bytes with this etag only."""
    from azure.core import MatchConditions

    return {"etag": quoted(etag), "match_condition": MatchConditions.IfNotModified}


def _delegation(now: datetime) -> Callable[[Any], DelegatedKey]:
    def ask(service: Any) -> DelegatedKey:
        given = service.get_user_delegation_key(now - _SKEW, now + _KEY_LASTS)
        return DelegatedKey(
            object_id=given.signed_oid,
            tenant_id=given.signed_tid,
            starts=given.signed_start,
            expires=given.signed_expiry,
            service=given.signed_service,
            version=given.signed_version,
            value=base64.b64decode(given.value),
        )

    return ask


def _first_with_version(container: Any) -> Any:
    return next(iter(container.list_blobs(include=["versions"], results_per_page=1)), None)


def _date_into(seen: list[str]) -> Callable[[Any], None]:
    return lambda response: seen.append(response.http_response.headers["Date"])


def _translated(error: Exception, bucket: str, own_meaning: frozenset[str]) -> Exception:
    """The port's exception for one of the library's."""
    from azure.core import exceptions as azure

    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status is not None and response is not None and not isinstance(error, azure.IncompleteReadError):
        wait = None
        with contextlib.suppress(KeyError, ValueError):
            wait = float(response.headers["Retry-After"])
        return refusal(int(status), response.headers.get("x-ms-error-code") or "", bucket, wait, own_meaning)
    match error:
        case azure.ServiceRequestTimeoutError() | azure.ServiceResponseTimeoutError():
            return TimeoutError("the store does not answer in time")
        case azure.ServiceRequestError() | azure.ServiceResponseError() | azure.IncompleteReadError():
            return ConnectionError("the connection to the store failed")
        case azure.ClientAuthenticationError():
            what = "there are no credentials for the store: give secret_key, or set up the cloud's default chain"
            return PrismError(ErrorCode.STORE_DOWN, what, context={"cause": type(error).__name__})
    return PrismError(ErrorCode.STORE_DOWN, "the store fails at the moment", context={"cause": type(error).__name__})


def refusal(
    status: int, code: str, bucket: str, wait: float | None = None, own_meaning: frozenset[str] = frozenset()
) -> Exception:
    """What an error answer means; Azure has one status for many things."""
    if code in own_meaning:
        return StoreAnswered(code)
    if code == "BlobAlreadyExists":
        return AlreadyExists()
    if status == 409 or code.startswith("Lease"):
        said = f"{status} {code}".strip()
        return PrismError(ErrorCode.STORE_DOWN, f"the store refuses the request: {said}", context={"cause": said})
    return answered(status, code, bucket, wait)
