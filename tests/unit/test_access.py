"""Who may do what, and that every operation leaves one record and one count, however it ends."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from prism.access import Access, Policy, decide
from prism.audit import AuditRecord, MemoryAudit
from prism.config import load
from prism.errors import ErrorCode, PrismError
from prism.model import Action, Caller, Principal

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
POLICY = Policy(frozenset({"mine", "other"}), open=True)
ANONYMOUS = Principal(name="anonymous", kind="anonymous")
KEY = Principal(name="mine", kind="access_key", namespaces=frozenset({"mine"}))
URL = Principal(name="mine", kind="presigned", namespaces=frozenset({"mine"}))
SERVER = {Action.READ_DOCS, Action.READ_HEALTH, Action.READ_METRICS, Action.READ_UI}
BY_URL = {Action.GET, Action.HEAD, Action.PUT, Action.DELETE, Action.LIST} | {
    *(Action.CREATE_UPLOAD, Action.PUT_PART, Action.READ_UPLOAD),
    *(Action.COMPLETE_UPLOAD, Action.ABORT_UPLOAD, Action.LIST_UPLOADS),
}


class Counted:
    """An access with its record and its numbers, over the embedded namespaces."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self.registry = CollectorRegistry()
        self.audit = MemoryAudit()
        ticks: Iterator[float] = itertools.count(step=0.25)
        config = load(None, environment or {}, data_dir=Path("/nowhere"))
        self.access = Access(config, self.registry, self.audit, lambda: NOW, elapsed=lambda: next(ticks))

    def caller(self, principal: Principal | None = None) -> Caller:
        return Caller(principal=principal or self.access.anonymous(), request_id="01J8", api="http")

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    @property
    def records(self) -> list[AuditRecord]:
        return self.audit.records


@pytest.fixture
def counted() -> Counted:
    return Counted()


class TestDecision:
    @pytest.mark.parametrize("action", list(Action))
    @pytest.mark.parametrize(
        ("principal", "granted"),
        [(ANONYMOUS, set(Action)), (KEY, set(Action) - SERVER), (URL, BY_URL)],
        ids=["anonymous", "access_key", "presigned"],
    )
    def test_each_kind_may_do_its_actions_and_no_other(
        self, principal: Principal, granted: set[Action], action: Action
    ) -> None:
        code = decide(POLICY, principal, action, "mine", "", "key").code
        assert code == (None if action in granted else ErrorCode.PERMISSION_DENIED)

    @pytest.mark.parametrize("action", sorted(set(Action) - SERVER - {Action.LIST_NAMESPACES}))
    @pytest.mark.parametrize("principal", [KEY, URL])
    def test_a_credential_hears_of_other_namespaces_what_it_hears_of_absent_ones(
        self, principal: Principal, action: Action
    ) -> None:
        codes = {decide(POLICY, principal, action, name, "", "k").code for name in ("other", "absent", "", "MINE")}
        allowed = decide(POLICY, principal, action, "mine", "", "k").code is None
        assert codes == {ErrorCode.NAMESPACE_NOT_FOUND if allowed else ErrorCode.PERMISSION_DENIED}

    def test_a_configured_namespace_is_needed_even_by_a_credential_for_it(self) -> None:
        gone = Principal(name="gone", kind="access_key", namespaces=frozenset({"gone"}))
        assert decide(POLICY, gone, Action.GET, "gone", "", "k").code is ErrorCode.NAMESPACE_NOT_FOUND
        assert decide(POLICY, ANONYMOUS, Action.GET, "gone", "", "k").code is ErrorCode.NAMESPACE_NOT_FOUND

    @pytest.mark.parametrize("action", list(Action))
    def test_a_closed_policy_asks_for_a_credential(self, action: Action) -> None:
        closed = Policy(POLICY.namespaces, open=False)
        assert decide(closed, ANONYMOUS, action, "mine", "", "k").code is ErrorCode.UNAUTHENTICATED

    @pytest.mark.parametrize("action", list(Action))
    @pytest.mark.parametrize("kind", ["access_key", "presigned"])
    def test_a_credential_bound_to_nothing_may_nothing(self, kind: str, action: Action) -> None:
        loose = Principal(name="x", kind=kind)
        assert decide(POLICY, loose, action, "mine", "", "k").code is ErrorCode.PERMISSION_DENIED

    @given(
        kind=st.text(max_size=12),
        action=st.sampled_from(list(Action)),
        namespaces=st.none() | st.frozensets(st.sampled_from(["mine", "other", "absent"])),
        namespace=st.sampled_from(["mine", "other", "absent", ""]),
    )
    def test_who_is_unknown_may_nothing(
        self, kind: str, action: Action, namespaces: frozenset[str] | None, namespace: str
    ) -> None:
        stranger = Principal(name="x", kind=f"x{kind}", namespaces=namespaces)
        assert decide(POLICY, stranger, action, namespace, "", "k").code is ErrorCode.PERMISSION_DENIED


class TestCredentials:
    def test_each_namespace_has_its_key_pair(self, counted: Counted) -> None:
        pair = counted.access.access_key("user-uploads")
        assert pair is not None
        assert pair == counted.access.key_pair("user-uploads")
        assert (pair.namespace, pair.secret.reveal()) == ("user-uploads", "prism-local-user-uploads")
        assert pair.principal == Principal(
            name="user-uploads", kind="access_key", namespaces=frozenset({"user-uploads"})
        )
        assert "prism-local" not in repr(pair)

    def test_others_have_none(self, counted: Counted) -> None:
        assert counted.access.access_key("nobody") is None
        with pytest.raises(PrismError) as caught:
            counted.access.key_pair("nobody")
        assert caught.value.code is ErrorCode.NAMESPACE_NOT_FOUND


class TestRecord:
    def test_an_operation_leaves_one(self, counted: Counted) -> None:
        with counted.access.operation(counted.caller(), Action.PUT, "user-uploads", "b", "k") as operation:
            operation.bytes_in = 3
            operation.detail["version_id"] = "v1"
            assert counted.records == []
        assert counted.records == [
            AuditRecord(
                time=NOW,
                principal="anonymous",
                kind="anonymous",
                api="http",
                action="object.put",
                outcome="OK",
                request_id="01J8",
                namespace="user-uploads",
                bucket="b",
                key="k",
                bytes_in=3,
                seconds=0.25,
                detail={"version_id": "v1"},
            )
        ]

    @pytest.mark.parametrize(
        ("error", "outcome"),
        [
            (PrismError(ErrorCode.OBJECT_NOT_FOUND, "no"), "OBJECT_NOT_FOUND"),
            (PrismError(ErrorCode.NOT_MODIFIED, "no"), "NOT_MODIFIED"),
            (asyncio.CancelledError(), "CANCELLED"),
            (GeneratorExit(), "CANCELLED"),
            (TimeoutError(), "DEADLINE_EXCEEDED"),
            (RuntimeError("secret=planted"), "INTERNAL"),
            (KeyboardInterrupt(), "INTERNAL"),
        ],
    )
    def test_the_outcome_is_how_it_ended_and_the_error_goes_on(
        self, counted: Counted, error: BaseException, outcome: str
    ) -> None:
        def fail() -> None:
            with counted.access.operation(counted.caller(), Action.GET, "user-uploads", "", "k") as operation:
                operation.hand_over()
                raise error

        with pytest.raises(type(error)) as caught:
            fail()
        assert caught.value is error
        assert [record.outcome for record in counted.records] == [outcome]
        assert counted.value("prism_requests_total", api="http", action="object.get", outcome=outcome) == 1
        assert "planted" not in repr(counted.records)

    def test_a_stream_ends_it_when_it_was_handed_over(self, counted: Counted) -> None:
        with counted.access.operation(counted.caller(), Action.GET, "user-uploads", "", "k") as operation:
            handed = operation.hand_over()
        assert handed is operation
        assert counted.records == []
        handed.bytes_out = 7
        handed.finish(asyncio.CancelledError())
        handed.finish()
        assert [(record.outcome, record.bytes_out) for record in counted.records] == [("CANCELLED", 7)]

    def test_finishing_twice_counts_once(self, counted: Counted) -> None:
        with counted.access.operation(counted.caller(), Action.HEAD, "user-uploads", "", "k") as operation:
            operation.finish(PrismError(ErrorCode.OBJECT_NOT_FOUND, "no"))
        assert [record.outcome for record in counted.records] == ["OBJECT_NOT_FOUND"]

    def test_a_denial_is_recorded_with_its_true_reason_but_told_alike(self, counted: Counted) -> None:
        pair = counted.access.key_pair("user-uploads")
        told = []
        for namespace in ("build-artifacts", "absent-artifacts"):
            with pytest.raises(PrismError) as caught:
                counted.access.operation(counted.caller(pair.principal), Action.GET, namespace, "", "k")
            told.append((caught.value.code, caught.value.message.replace(namespace, "…"), caught.value.context))
        assert told[0] == told[1]
        assert [record.outcome for record in counted.records] == ["NAMESPACE_NOT_FOUND"] * 2
        assert counted.records[0].detail == {"denied": "credential of another namespace"}

    def test_reads_may_be_left_out_but_not_mutations_grants_and_denials(self) -> None:
        counted = Counted({"PRISM_AUDIT__READS": "false"})
        for action in Action:
            with counted.access.operation(counted.caller(), action, "user-uploads", "", "k"):
                pass
        kept = {record.action for record in counted.records}
        assert kept == {
            *("object.put", "object.delete", "object.presign_get", "object.presign_put", "object.presign_delete"),
            *("prefix.delete", "bucket.create", "bucket.delete", "upload.create", "upload.sign_parts"),
            *("upload.put_part", "upload.complete", "upload.abort"),
        }
        with pytest.raises(PrismError):
            counted.access.operation(counted.caller(URL), Action.USAGE, "user-uploads")
        assert counted.records[-1].action == "namespace.usage"

    def test_with_reads_every_action_is_recorded(self, counted: Counted) -> None:
        for action in Action:
            with counted.access.operation(counted.caller(), action, "user-uploads", "", "k"):
                pass
        assert [record.action for record in counted.records] == list(Action)


class TestNumbers:
    def test_requests_seconds_and_bytes_have_stable_names(self, counted: Counted) -> None:
        for size in (3, 4):
            with counted.access.operation(counted.caller(), Action.PUT, "user-uploads", "", "k") as operation:
                operation.bytes_in = size
        with counted.access.operation(counted.caller(), Action.GET, "user-uploads", "", "k") as operation:
            operation.bytes_out = 5
        assert counted.value("prism_requests_total", api="http", action="object.put", outcome="OK") == 2
        assert counted.value("prism_request_seconds_count", api="http", action="object.put") == 2
        assert counted.value("prism_request_seconds_sum", api="http", action="object.put") == 0.5
        assert counted.value("prism_request_seconds_bucket", api="http", action="object.put", le="0.25") == 2
        assert counted.value("prism_bytes_total", direction="in", action="object.put") == 7
        assert counted.value("prism_bytes_total", direction="out", action="object.get") == 5

    def test_names_from_callers_make_no_series(self, counted: Counted) -> None:
        for number in range(50):
            with pytest.raises(PrismError):
                counted.access.operation(counted.caller(), Action.GET, f"absent-{number}", f"b{number}", f"k{number}")
        lines = [line for line in generate_latest(counted.registry).decode().splitlines() if "requests_total{" in line]
        assert lines == [
            'prism_requests_total{action="object.get",api="http",outcome="NAMESPACE_NOT_FOUND"} 50.0',
        ]


def test_no_secret_reaches_record_or_metric(counted: Counted) -> None:
    pair = counted.access.key_pair("user-uploads")
    url = "http://127.0.0.1:8333/b/k?X-Amz-Credential=planted&X-Amz-Signature=planted"
    with counted.access.operation(counted.caller(pair.principal), Action.PRESIGN_PUT, "user-uploads", "", "k"):
        pass
    with (
        pytest.raises(RuntimeError),
        counted.access.operation(counted.caller(), Action.GET, "user-uploads", "", "k"),
    ):
        raise RuntimeError(url)
    shown = repr(counted.records) + json.dumps([record.detail for record in counted.records])
    shown += generate_latest(counted.registry).decode()
    assert "planted" not in shown
    assert pair.secret.reveal() not in shown
