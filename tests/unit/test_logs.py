"""What an operator reads on standard error: JSON lines with request ids, and never a secret, whoever logs."""

import contextlib
import fcntl
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from prism.config import Secret
from prism.logs import configure

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
Lines = Callable[[], list[dict[str, Any]]]


@contextlib.contextmanager
def logged() -> Iterator[Lines]:
    """Only what `configure` sets up, for a while; a call reads what was logged since the last one."""
    root, (reader, writer) = logging.getLogger(), os.pipe()
    os.set_blocking(reader, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1_048_576)
    before = root.handlers[:], root.level
    configure("info", lambda: NOW, writer)

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in os.read(reader, 1_048_576).splitlines()]

    yield read
    root.handlers[:], root.level = before
    logging.captureWarnings(False)
    structlog.reset_defaults()
    os.close(reader)
    os.close(writer)


def test_an_event_is_one_line_with_time_level_name_and_request() -> None:
    with logged() as lines:
        with structlog.contextvars.bound_contextvars(request_id="01J8"):
            structlog.get_logger("prism.objects").info(
                "stored", key="a\nb", size_bytes=3, odd={"x": [1, None, True, 2.5]}
            )
        assert lines() == [
            {
                "time": "2026-11-24T12:00:00Z",
                "level": "info",
                "logger": "prism.objects",
                "event": "stored",
                "request_id": "01J8",
                "key": "a\nb",
                "size_bytes": 3,
                "odd": {"x": [1, None, True, 2.5]},
            }
        ]


def test_what_is_below_the_level_is_not_written() -> None:
    with logged() as lines:
        structlog.get_logger("prism").debug("no")
        logging.getLogger("uvicorn.error").debug("no")
        logging.getLogger("uvicorn.access").info("GET /?X-Amz-Signature=planted")
        structlog.get_logger("prism").warning("yes")
        assert [line["event"] for line in lines()] == ["yes"]


def test_other_libraries_come_out_the_same_way() -> None:
    with logged() as lines:
        with structlog.contextvars.bound_contextvars(request_id="01J8"):
            logging.getLogger("uvicorn.error").error("lost %s with token=%s", "it", "planted")
        logging.getLogger("grpc._cython").warning("%d words", "not a number")
        warnings.warn("Authorization: planted", stacklevel=1)
        first, second, third = lines()
        assert (first["logger"], first["level"], first["event"]) == ("uvicorn.error", "error", "lost it with token=***")
        assert first["request_id"] == "01J8"
        assert second["event"] == "(TypeError while formatting)"
        assert third["logger"] == "py.warnings"
        assert "planted" not in third["event"]


def test_a_logger_that_brought_its_own_handler_is_taken_over(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(logging.StreamHandler())
    logger.propagate = False
    with logged() as lines:
        logger.warning("once")
        assert [line["event"] for line in lines()] == ["once"]
    assert capsys.readouterr().err == ""


def test_an_exception_comes_with_its_traceback_and_without_its_secrets() -> None:
    with logged() as lines:

        def fail() -> None:
            raise ValueError("cannot reach postgresql://prism:planted@db, password: planted")

        try:
            fail()
        except ValueError as error:
            structlog.get_logger("prism").exception("failed")
            structlog.get_logger("prism").error("failed", exc_info=error)
            logging.getLogger("asyncio").exception("failed")
        found = lines()
        assert len(found) == 3
        for line in found:
            assert "in fail" in line["exception"]
            assert "ValueError: cannot reach postgresql://***@db" in line["exception"]
            assert "planted" not in line["exception"]


def test_a_cut_text_does_not_bare_a_secret() -> None:
    with logged() as lines:
        log = structlog.get_logger("prism")
        for filler in (8_150, 8_170, 8_190, 8_192):
            event = f"{'x' * filler} X-Amz-Signature={'planted' * 2000}"
            log.info(event)
            try:
                raise ValueError(f"X-Amz-Signature={'planted' * 2000} {'x' * filler}")
            except ValueError:
                log.exception("failed")
        text = json.dumps(lines())
        assert "planted" not in text
        assert len(text) < 200_000


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("planted")

    __repr__ = __str__


SECRET = "planted-b3Jkw5/+0123456789"
NAMES = st.sampled_from(["token", "X-Amz-Signature", "authorization", "secret_key", "password", "X-Amz-Credential"])
LEAVES = (
    NAMES.map(lambda name: f"https://host/a?x=1&{name}={SECRET}")
    | NAMES.map(lambda name: f"{name}: {SECRET}")
    | NAMES.map(lambda name: {name: SECRET})
    | NAMES.map(lambda name: (name.encode(), SECRET.encode()))
    | st.just(Secret(SECRET))
    | st.just(ValueError(f"https://u:{SECRET.replace('/', '')}@host/"))
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.integers()
    | st.floats()
    | st.none()
    | st.booleans()
    | st.builds(Hostile)
    | st.sampled_from(["\ud800", "a\nb", "\x00\x1b[2J"])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3) | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@given(value=VALUES, name=NAMES | st.text(min_size=1, max_size=5))
def test_no_value_brings_a_secret_or_breaks_a_line(value: Any, name: str) -> None:
    with logged() as lines:
        fields = {"value": value, f"_{name}": value}
        structlog.get_logger("prism").info("something", **fields)
        logging.getLogger("grpc").error("%s", value)
        structlog.get_logger("prism").info(value)
        found = lines()
        assert len(found) == 3
        assert "planted" not in json.dumps(found)


def test_lines_are_bounded() -> None:
    with logged() as lines:
        wide: list[Any] = []
        wide.extend([wide] * 64)
        structlog.get_logger("prism").info("x" * 100_000, wide=wide, many={str(n): "y" * 10_000 for n in range(1000)})
        (line,) = lines()
        assert len(json.dumps(line)) < 200_000


def test_a_log_that_cannot_be_written_fails_nobody() -> None:
    with logged():
        full = os.open("/dev/full", os.O_WRONLY)
        configure("info", lambda: NOW, full)
        structlog.get_logger("prism").info("lost")
        logging.getLogger("grpc").error("lost")
        os.close(full)
        structlog.get_logger("prism").info("lost")
