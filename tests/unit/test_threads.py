"""The pool of threads of one store: what nobody waits for any more does not begin, and nothing hangs the end."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from prism.blob.threads import Threads


class Gate:
    """Holds the one thread of a pool until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._open = threading.Event()

    def pass_(self) -> str:
        self.entered.set()
        assert self._open.wait(20)
        return "passed"

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open()


async def held(gate: Gate) -> tuple[Threads, "asyncio.Future[str]"]:
    """A pool whose only thread is at work."""
    threads = Threads(1, "test")
    first = threads.run(gate.pass_)
    assert await asyncio.to_thread(gate.entered.wait, 20)
    return threads, first


async def test_what_was_cancelled_before_it_began_never_begins(gate: Gate) -> None:
    threads, first = await held(gate)
    begun: list[str] = []
    late = threads.run(begun.append, "late")
    kept = threads.run(begun.append, "kept")
    late.cancel()
    gate.open()
    assert await first == "passed"
    await kept
    assert begun == ["kept"]
    await threads.close()


async def test_what_has_not_begun_can_be_withdrawn_for_whoever_shields_it(gate: Gate) -> None:
    threads, first = await held(gate)
    begun: list[str] = []
    late = threads.run(begun.append, "late")
    assert not threads.withdraw(first)
    assert threads.withdraw(late)
    assert late.cancelled()
    gate.open()
    assert await first == "passed"
    await threads.run(begun.append, "after")
    assert begun == ["after"]
    await threads.close()


async def test_a_call_that_hangs_does_not_hang_the_end(gate: Gate) -> None:
    threads, first = await held(gate)
    waiting = threads.run(gate.pass_)
    began = time.monotonic()
    await threads.close(longest_seconds=0.2)
    assert time.monotonic() - began < 5
    assert waiting.cancelled()
    gate.open()
    assert await first == "passed"
