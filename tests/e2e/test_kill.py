"""kill -9 at moments nobody chose, under a mixed load, again and again on one folder; with one process and with
workers."""

import asyncio
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
from program import prism, serving, until
from promises import CONFIG, Client, Died, at_rest
from shifted import opened_ahead

DEEP = "PRISM_TEST_DEEP" in os.environ
ROUNDS = 40 if DEEP else 4
SPACES = ("user-uploads", "kept")


class _Load(threading.Thread):
    """Random operations on keys of its own until the server is gone."""

    def __init__(self, number, seed):
        super().__init__()
        self.client = Client()
        self.failed = None
        self._own = f"load{number}"
        self._random = random.Random(f"{seed}/{number}")

    def aim(self, http):
        """A fresh thread with the same model and the same dice."""
        fresh = _Load(self._own.removeprefix("load"), 0)
        fresh.client, fresh._random = self.client, self._random
        fresh.client.connect(http)
        return fresh

    def run(self):
        try:
            while True:
                self._step()
        except Died:
            return
        except BaseException as error:  # noqa: BLE001 - the test's thread raises it
            self.failed = error
        finally:
            self.client.close()

    def _step(self):
        dice, client = self._random, self.client
        space, key = dice.choice(SPACES), f"{self._own}/{dice.choice('abcdef')}"
        content = dice.randbytes(dice.choice((0, 10, 1000, 300_000)))
        match dice.randrange(8):
            case 0 | 1 | 2:
                client.put(space, key, content)
            case 3:
                client.put_by_url(space, key, content)
            case 4:
                client.delete(space, key)
            case 5:
                client.delete_folder(space, f"{self._own}/")
            case 6:
                if len(client.allowed.get((space, "", key), ())) == 1 and client.allowed[space, "", key] != {None}:
                    client.copy(space, key, key + "-copy")
            case _:
                found = client.get(space, key)
                assert found in client.allowed.get((space, "", key), {None})


@pytest.mark.crash
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost(tmp_path, workers):
    seed = random.SystemRandom().randrange(2**32) if DEEP else 20_26
    print("seed", seed)
    dice = random.Random(seed)
    (tmp_path / "config.yaml").write_text(CONFIG)
    loads = [_Load(number, seed) for number in range(4)]
    arguments = ("--config", str(tmp_path / "config.yaml"), "--workers", str(workers))
    env = {"PRISM_JANITOR__INTERVAL_SECONDS": "0.05", "PRISM_LIMITS__OVERWRITE_GRACE_SECONDS": "0"}
    for _ in range(ROUNDS if workers == 1 else max(2, ROUNDS // 2)):
        with serving(tmp_path / "data", *arguments, env=env) as program:
            loads = [load.aim(program.http) for load in loads]
            for load in loads:
                load.client.check()
                load.start()
            time.sleep(dice.uniform(0.2, 1.2))
            program.kill()
            for load in loads:
                load.join(30)
                assert load.failed is None, load.failed
    asyncio.run(_check(tmp_path, [load.client for load in loads]))


async def _check(home, clients):
    with serving(home / "data", "--config", str(home / "config.yaml")) as program:
        for client in clients:
            client.connect(program.http)
            await asyncio.to_thread(client.check)
        assert program.stop() == 0
    for days in (10, 20, 30):
        async with opened_ahead(home / "config.yaml", home / "data", days) as app:
            assert not (await app.janitor.run_once()).failed
            if days == 30:
                await at_rest(app, home / "data")


@pytest.mark.crash
def test_a_dead_worker_is_started_again_and_the_others_go_on(tmp_path):
    with serving(tmp_path / "data", "--workers", "2") as program:
        client = Client()
        client.connect(program.http)
        client.put("user-uploads", "before", b"before")
        first = until(lambda: _children(program), "two workers")
        assert len(first) == 2
        os.kill(first[0], signal.SIGKILL)
        until(lambda: len(now := _children(program)) == 2 and first[0] not in now, "another worker")
        until(lambda: _answers(client), "the object is served", 10)
        assert program.stop() == 0
        assert program.process.stdout.read() == "", "one ready line, once"
    assert "a worker died and is started again" in program.said()


@pytest.mark.crash
def test_workers_die_with_their_parent(tmp_path):
    with serving(tmp_path / "data", "--workers", "2") as program:
        workers = _children(program)
        assert len(workers) == 2
        program.kill()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "all are gone")


def test_a_check_beside_a_running_server_disturbs_nothing(tmp_path):
    """Another process on the same folder: an upload in progress goes on, nothing of it is cleared away."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    with serving(tmp_path / "data", "--config", str(tmp_path / "config.yaml")) as program:
        client, half = Client(), threading.Event()
        client.connect(program.http)

        def body():
            yield b"a" * 3_000_000
            half.wait(20)
            yield b"b" * 3_000_000

        url = f"{program.http}/v1/namespaces/user-uploads/objects/slow"
        answers = []
        thread = threading.Thread(target=lambda: answers.append(client.ask("PUT", url, content=body())))
        thread.start()
        for command in ("fsck", "janitor"):
            more = ("--once",) if command == "janitor" else ()
            ended = prism(
                command, *more, "--config", str(tmp_path / "config.yaml"), "--data-dir", str(tmp_path / "data")
            )
            assert ended.returncode == 0, ended.stderr
        half.set()
        thread.join(20)
        assert answers[0].is_success
        assert client.get("user-uploads", "slow") == b"a" * 3_000_000 + b"b" * 3_000_000
        client.close()


def _children(program):
    text = Path(f"/proc/{program.process.pid}/task/{program.process.pid}/children").read_text()
    return [int(word) for word in text.split()]


def _answers(client):
    try:
        return client.get("user-uploads", "before") == b"before"
    except Died:
        return False
