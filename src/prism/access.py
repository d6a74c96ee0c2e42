"""Who may do what: one decision function for every API, the audit record, and the counting of operations.

`Access.operation` is the only door: it decides (deny by default), and on leaving writes one audit record and the
metrics of the operation. Services call it; servers call it for routes that reach no service (health, docs, metrics).
Existence is a secret: a credential hears of others' namespaces what it hears of absent ones. Nobody is authenticated
here; servers verify signatures and hand over a `Principal`.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram

from .audit import AuditRecord, AuditSink
from .config import Config, Secret
from .errors import ErrorCode, PrismError
from .model import Action, Caller, Principal

__all__ = ["Access", "AccessKey", "Decision", "Operation", "Policy", "decide"]

_SERVER = frozenset({Action.READ_DOCS, Action.READ_HEALTH, Action.READ_METRICS, Action.READ_UI})
_BY_URL = frozenset({Action.GET, Action.HEAD, Action.PUT, Action.DELETE, Action.LIST}) | {
    Action.CREATE_UPLOAD,
    Action.PUT_PART,
    Action.READ_UPLOAD,
    Action.COMPLETE_UPLOAD,
    Action.ABORT_UPLOAD,
    Action.LIST_UPLOADS,
}
_MAY: Mapping[str, frozenset[Action]] = {
    "anonymous": frozenset(Action),
    "access_key": frozenset(Action) - _SERVER,
    # A signature covers method, path and query, so a URL can do nothing but what it was made for; the rest is refused
    # whatever it says.
    "presigned": _BY_URL,
}
_WITHOUT_NAMESPACE = _SERVER | {Action.LIST_NAMESPACES}
_READS = _SERVER | {
    Action.GET,
    Action.HEAD,
    Action.COPY_SOURCE,
    Action.LIST,
    Action.LIST_EXPIRING,
    Action.USAGE,
    Action.LIST_NAMESPACES,
    Action.LIST_BUCKETS,
    Action.HEAD_BUCKET,
    Action.READ_UPLOAD,
    Action.LIST_UPLOADS,
}
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


class Policy(msgspec.Struct, frozen=True):
    """What decisions rest on: the namespaces served, and whether callers without a credential may do everything."""

    namespaces: frozenset[str]
    open: bool


class Decision(msgspec.Struct, frozen=True):
    """`code` is None when the caller may; else the error that it is told, and `reason`, which only the audit says."""

    code: ErrorCode | None = None
    reason: str = ""


_ALLOWED = Decision()
_UNAUTHENTICATED = Decision(ErrorCode.UNAUTHENTICATED, "no credential")
_UNKNOWN_KIND = Decision(ErrorCode.PERMISSION_DENIED, "unknown kind of principal")
_NOT_GRANTED = Decision(ErrorCode.PERMISSION_DENIED, "action not granted to this kind of principal")
_UNBOUND = Decision(ErrorCode.PERMISSION_DENIED, "credential bound to no namespace")
_NO_NAMESPACE = Decision(ErrorCode.NAMESPACE_NOT_FOUND, "no such namespace")
_FOREIGN = Decision(ErrorCode.NAMESPACE_NOT_FOUND, "credential of another namespace")


def decide(policy: Policy, principal: Principal, action: Action, namespace: str, bucket: str, key: str) -> Decision:
    """May this principal do this? Pure; denies whatever no line below allows.

    | principal  | may do                                                       | where                        |
    |------------|--------------------------------------------------------------|------------------------------|
    | anonymous  | everything, if the policy is open                            | every configured namespace   |
    | access_key | everything but the server's own pages                        | the namespaces of its key    |
    | presigned  | get, head, put, delete, list, uploads in parts: what it says | the namespaces of its signer |
    """
    granted = _MAY.get(principal.kind)
    if granted is None:
        return _UNKNOWN_KIND
    if principal.kind == "anonymous":
        if not policy.open:
            return _UNAUTHENTICATED
    elif principal.namespaces is None:
        return _UNBOUND
    if action not in granted:
        return _NOT_GRANTED
    if action in _WITHOUT_NAMESPACE:
        return _ALLOWED
    if principal.namespaces is not None and namespace not in principal.namespaces:
        return _FOREIGN
    return _ALLOWED if namespace in policy.namespaces else _NO_NAMESPACE


class AccessKey(msgspec.Struct, frozen=True):
    """A key pair of Prism's own S3 endpoint, and who its owner is."""

    access_key: str
    secret: Secret
    namespace: str
    principal: Principal
    region: str
    """The region that its signatures name."""


class Access:
    """The decisions, records and counts of one process."""

    def __init__(
        self,
        config: Config,
        registry: CollectorRegistry,
        audit: AuditSink,
        now: Callable[[], datetime],
        elapsed: Callable[[], float] = time.perf_counter,
        policy: Policy | None = None,
    ) -> None:
        self._policy = policy or Policy(frozenset(space.name for space in config.namespaces), open=True)
        self._anonymous = Principal(name="anonymous", kind="anonymous")
        pairs = [
            AccessKey(
                space.s3_access_key,
                space.s3_secret,
                space.name,
                Principal(name=space.s3_access_key, kind="access_key", namespaces=frozenset({space.name})),
                config.server.s3_region,
            )
            for space in config.namespaces
        ]
        self._by_access_key = {pair.access_key: pair for pair in pairs}
        self._by_namespace = {pair.namespace: pair for pair in pairs}
        self._ledger = _Ledger(registry, audit, config.audit.reads, elapsed)
        self._now = now

    def anonymous(self) -> Principal:
        """Who calls without a credential."""
        return self._anonymous

    def access_key(self, access_key_id: str) -> AccessKey | None:
        """The key pair that a request names; None when there is none of this name."""
        return self._by_access_key.get(access_key_id)

    def key_pair(self, namespace: str) -> AccessKey:
        """The pair that signs URLs of a namespace. NAMESPACE_NOT_FOUND when it is not configured."""
        pair = self._by_namespace.get(namespace)
        if pair is None:
            raise PrismError(ErrorCode.NAMESPACE_NOT_FOUND, _told(ErrorCode.NAMESPACE_NOT_FOUND, "", namespace))
        return pair

    def operation(
        self, caller: Caller, action: Action, namespace: str = "", bucket: str = "", key: str = ""
    ) -> "Operation":
        """Decide, and begin the operation. A denial is recorded and counted, and raises UNAUTHENTICATED,
        PERMISSION_DENIED, or NAMESPACE_NOT_FOUND for a namespace that is absent or that the caller may not know of."""
        operation = Operation(self._ledger, caller, action, namespace, bucket, key, self._now())
        decision = decide(self._policy, caller.principal, action, namespace, bucket, key)
        if decision.code is None:
            return operation
        error = PrismError(decision.code, _told(decision.code, action, namespace))
        operation.detail["denied"] = decision.reason
        operation.finish(error)
        raise error

    def refused(
        self, caller: Caller, action: Action, error: PrismError, namespace: str = "", bucket: str = "", key: str = ""
    ) -> None:
        """Record and count a request whose credential did not hold, so that no decision was asked for."""
        operation = Operation(self._ledger, caller, action, namespace, bucket, key, self._now())
        operation.detail["denied"] = "credential refused"
        operation.finish(error)


def _told(code: ErrorCode, action: str, namespace: str) -> str:
    """The sentence for the caller; it never depends on what the caller may not know."""
    if code is ErrorCode.NAMESPACE_NOT_FOUND:
        return f"there is no namespace {namespace[:80]!r}"
    if code is ErrorCode.UNAUTHENTICATED:
        return f"{action} needs a credential"
    return f"this credential does not allow {action}"


class _Ledger:
    """Where finished operations are counted and recorded. Label children are kept: looking them up costs most."""

    def __init__(
        self, registry: CollectorRegistry, audit: AuditSink, reads: bool, elapsed: Callable[[], float]
    ) -> None:
        self._requests = Counter(
            "prism_requests", "Operations by API, action and outcome", ["api", "action", "outcome"], registry=registry
        )
        self._seconds = Histogram(
            "prism_request_seconds",
            "Duration of operations, streams to their end",
            ["api", "action"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._bytes = Counter("prism_bytes", "Object bytes in and out", ["direction", "action"], registry=registry)
        self._count: dict[tuple[str, str, str], Callable[[], None]] = {}
        self._observe: dict[tuple[str, str], Callable[[float], None]] = {}
        self._add_bytes: dict[tuple[str, str], Callable[[float], None]] = {}
        self._audit = audit
        self._reads = reads
        self.elapsed = elapsed

    def enter(self, operation: "Operation", outcome: str, seconds: float) -> None:
        """One finished operation: the record first, then the numbers."""
        action, caller = operation.action, operation.caller
        if self._reads or action not in _READS or "denied" in operation.detail:
            self._audit.write(_record(operation, outcome, seconds))
        labels = (caller.api, action, outcome)
        count = self._count.get(labels)
        if count is None:
            count = self._count[labels] = self._requests.labels(*labels).inc
        count()
        observe = self._observe.get(labels[:2])
        if observe is None:
            observe = self._observe[labels[:2]] = self._seconds.labels(*labels[:2]).observe
        observe(seconds)
        if operation.bytes_in:
            self._move("in", action, operation.bytes_in)
        if operation.bytes_out:
            self._move("out", action, operation.bytes_out)

    def _move(self, direction: str, action: str, size_bytes: int) -> None:
        add = self._add_bytes.get((direction, action))
        if add is None:
            add = self._add_bytes[direction, action] = self._bytes.labels(direction, action).inc
        add(size_bytes)


def _record(operation: "Operation", outcome: str, seconds: float) -> AuditRecord:
    caller = operation.caller
    return AuditRecord(
        operation.began_at,
        caller.principal.name,
        caller.principal.kind,
        caller.api,
        operation.action,
        outcome,
        caller.request_id,
        operation.namespace,
        operation.bucket,
        operation.key,
        operation.bytes_in,
        operation.bytes_out,
        round(seconds, 6),
        operation.detail or None,
    )


class Operation:
    """One operation that was let in. Leave its `with` block, or call `finish`: then it is recorded, once.

    `detail` holds short facts for the record (a version id, the seconds of a grant), never URLs, tokens or signatures.
    """

    __slots__ = (
        "_finished",
        "_handed_over",
        "_ledger",
        "_started",
        "action",
        "began_at",
        "bucket",
        "bytes_in",
        "bytes_out",
        "caller",
        "detail",
        "key",
        "namespace",
    )

    def __init__(
        self,
        ledger: _Ledger,
        caller: Caller,
        action: Action,
        namespace: str,
        bucket: str,
        key: str,
        began_at: datetime,
    ) -> None:
        self.caller = caller
        self.action = action
        self.namespace = namespace
        self.bucket = bucket
        self.key = key
        self.began_at = began_at
        self.bytes_in = 0
        self.bytes_out = 0
        self.detail: dict[str, str] = {}
        self._ledger = ledger
        self._started = ledger.elapsed()
        self._finished = False
        self._handed_over = False

    def __enter__(self) -> "Operation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None or not self._handed_over:
            self.finish(error)

    def hand_over(self) -> "Operation":
        """Let a stream finish it: leaving the `with` block in peace no longer does, an exception still does."""
        self._handed_over = True
        return self

    def finish(self, error: BaseException | None = None) -> None:
        """Record how it ended; later calls do nothing."""
        if self._finished:
            return
        self._finished = True
        self._ledger.enter(self, _outcome(error), self._ledger.elapsed() - self._started)


def _outcome(error: BaseException | None) -> str:
    match error:
        case None:
            return "OK"
        case PrismError(code=code):
            return str(code)
        case asyncio.CancelledError() | GeneratorExit():
            return "CANCELLED"
        case TimeoutError():
            return str(ErrorCode.DEADLINE_EXCEEDED)
        case _:
            return str(ErrorCode.INTERNAL)
