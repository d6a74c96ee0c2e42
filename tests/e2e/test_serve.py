"""`prism serve` as a person meets it: first start, what it refuses, how it stops."""

import contextlib
import os
import signal
import socket
import sqlite3
import threading
import time
from pathlib import Path

import httpx
import pytest
from prism_sdk import PrismClient
from program import PORTS, prism, serving, until

OBJECTS = "/v1/namespaces/user-uploads/objects"


def test_first_run_needs_nothing_and_serves_everything(tmp_path):
    with serving(tmp_path / "data") as program:
        assert set(program.endpoints) == {"grpc", "http", "s3"}
        assert program.http.startswith("http://127.0.0.1:")
        assert httpx.get(program.http + "/readyz").status_code == 200
        with PrismClient("user-uploads", endpoint=program.grpc) as client:
            client.put_object("", "hello", b"world")
            assert httpx.get(client.get_presigned_url("", "hello")).content == b"world"
        spaces = httpx.get(program.http + "/v1/namespaces").text
        assert all(name in spaces for name in ("user-uploads", "build-artifacts", "matyan-artifacts"))
        assert program.stop() == 0
    assert (tmp_path / "data" / "catalog.sqlite").exists()
    with serving(tmp_path / "data") as program:
        assert httpx.get(f"{program.http}{OBJECTS}/hello").content == b"world"


def test_a_setting_that_nothing_reads_yet_is_said_to_have_no_effect(tmp_path):
    with serving(tmp_path / "data", env={"PRISM_RUNS__ANONYMOUS": "true"}) as program:
        assert [line for line in program.said().splitlines() if "no effect yet" in line and "runs.anonymous" in line]


def test_it_is_ready_soon(tmp_path):
    """In processor time, which does not depend on what else the machine does."""
    with serving(tmp_path / "data") as program:
        fields = Path(f"/proc/{program.process.pid}/stat").read_text().rpartition(")")[2].split()
        assert (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") < 1.5


def test_only_the_endpoints_of_its_roles_are_served(tmp_path):
    with serving(tmp_path / "data", "--roles", "s3,janitor") as program:
        assert set(program.endpoints) == {"s3"}
    with serving(tmp_path / "data", "--roles", "janitor") as program:
        assert program.endpoints == {}
        assert program.stop() == 0


@pytest.mark.parametrize("role", ["frontier", "backend", "ingestion", "control", "ui"])
def test_roles_that_are_not_built_are_named(role, tmp_path):
    ended = prism("serve", "--data-dir", str(tmp_path), "--roles", f"api,{role}")
    assert ended.returncode == 2
    assert f"role {role} is not built yet".encode() in b" ".join(ended.stderr.split())


@pytest.mark.parametrize("name", ["grpc", "http", "s3"])
def test_another_address_than_loopback_is_refused_without_auth(name, tmp_path):
    ended = prism("serve", "--data-dir", str(tmp_path / "data"), f"--{name}", "0.0.0.0:0")
    assert ended.returncode == 1
    assert ended.stderr.count(b"\n") == 1
    assert b"auth: open" in ended.stderr
    assert not (tmp_path / "data").exists()


def test_auth_open_allows_it(tmp_path):
    ports = (*PORTS[:2], "--http", "0.0.0.0:0", *PORTS[4:])
    with serving(tmp_path / "data", env={"PRISM_AUTH__MODE": "open"}, ports=ports) as program:
        port = program.http.rpartition(":")[2]
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200


@pytest.mark.parametrize("name", ["grpc", "http", "s3"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_taken_port_is_one_sentence(name, workers, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ports = dict(zip(PORTS[::2], PORTS[1::2], strict=True)) | {f"--{name}": address}
        flat = [word for pair in ports.items() for word in pair]
        ended = prism("serve", "--data-dir", str(tmp_path / "data"), *flat, "--workers", workers)
    assert ended.returncode == 1
    assert ended.stderr.decode() == f"prism: server.{name}.address: {address} is in use by another program\n"
    assert ended.stdout == b""


def test_two_servers_do_not_share_a_port(tmp_path):
    with serving(tmp_path / "one") as program:
        ended = prism("serve", "--data-dir", str(tmp_path / "two"), *PORTS[2:], "--grpc", program.grpc)
    assert ended.returncode == 1
    assert b"is in use" in ended.stderr


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    ended = prism("serve", "--data-dir", str(tmp_path / "file" / "data"), *PORTS)
    assert ended.returncode == 1
    assert ended.stderr.count(b"\n") == 1
    assert b"cannot be written" in ended.stderr


def test_a_catalog_of_a_newer_program_is_refused(tmp_path):
    with serving(tmp_path / "data") as program:
        program.stop()
    with sqlite3.connect(tmp_path / "data" / "catalog.sqlite") as database:
        changed = database.execute("update space set v = ? where instr(k, ?)", (b"999", b"schema")).rowcount
    database.close()
    assert changed == 1
    ended = prism("serve", "--data-dir", str(tmp_path / "data"), *PORTS)
    assert ended.returncode == 1
    assert ended.stderr.count(b"\n") == 1
    assert b"newer program" in ended.stderr


def test_a_store_of_another_deployment_is_refused(tmp_path):
    with serving(tmp_path / "data") as program:
        program.stop()
    for file in (tmp_path / "data").glob("catalog.sqlite*"):
        file.unlink()
    ended = prism("serve", "--data-dir", str(tmp_path / "data"), *PORTS)
    assert ended.returncode == 1
    assert b"belongs to another deployment" in ended.stderr


def test_a_store_of_another_namespace_is_refused(tmp_path):
    with serving(tmp_path / "data") as program:
        program.stop()
    swapped = {
        "PRISM_NAMESPACES__USER_UPLOADS__ROOT": str(tmp_path / "data/blobs/build-artifacts"),
        "PRISM_NAMESPACES__BUILD_ARTIFACTS__ROOT": str(tmp_path / "data/blobs/user-uploads"),
    }
    ended = prism("serve", "--data-dir", str(tmp_path / "data"), *PORTS, env=swapped)
    assert ended.returncode == 1
    assert b"belongs to namespace 'build-artifacts'" in ended.stderr


class _SlowBody:
    """A body that comes in pieces, and waits for the last one until it is released."""

    def __init__(self, pieces=6, size=2_000_000):
        self.pieces = [bytes([65 + number]) * size for number in range(pieces)]
        self.begun = threading.Event()
        self.release = threading.Event()

    def __iter__(self):
        yield from self.pieces[:-1]
        self.begun.set()
        self.release.wait(20)
        yield self.pieces[-1]

    @property
    def whole(self):
        return b"".join(self.pieces)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_flight_is_finished(number, tmp_path):
    bodies = {"by-http": _SlowBody(), "by-grpc": _SlowBody(), "by-url": _SlowBody()}
    answers = {}

    def by_http():
        answers["by-http"] = httpx.put(f"{http}/by-http", content=iter(bodies["by-http"]), timeout=20).status_code

    def by_url():
        body, headers = bodies["by-url"], {"content-length": str(len(bodies["by-url"].whole))}
        answers["by-url"] = httpx.put(url, content=iter(body), headers=headers, timeout=20).status_code

    def by_grpc():
        with PrismClient("user-uploads", endpoint=program.grpc) as own:
            answers["by-grpc"] = own.put_object("", "by-grpc", iter(bodies["by-grpc"])).size_bytes

    with serving(tmp_path / "data") as program:
        http = program.http + OBJECTS
        with PrismClient("user-uploads", endpoint=program.grpc) as client:
            url = client.get_presigned_url("", "by-url", "PUT")
        threads = [threading.Thread(target=work) for work in (by_http, by_url, by_grpc)]
        for thread in threads:
            thread.start()
        for body in bodies.values():
            assert body.begun.wait(20)
        program.process.send_signal(number)
        until(lambda: _refuses(program.http), "no new connection is accepted")
        assert program.process.poll() is None
        for body in bodies.values():
            body.release.set()
        for thread in threads:
            thread.join(20)
        assert program.ended() == 0
    assert answers == {"by-http": 200, "by-url": 200, "by-grpc": 12_000_000}
    with serving(tmp_path / "data") as program:
        for name, body in bodies.items():
            assert httpx.get(f"{program.http}{OBJECTS}/{name}").content == body.whole


def _refuses(url):
    try:
        httpx.get(url + "/healthz", timeout=2)
    except httpx.TransportError:
        return True
    return False


def test_a_transfer_that_does_not_end_is_cut_off_and_leaves_nothing(tmp_path):
    body = _SlowBody()
    failed = []

    def put():
        try:
            failed.append(httpx.put(f"{program.http}{OBJECTS}/never", content=iter(body), timeout=20).status_code)
        except httpx.TransportError as error:
            failed.append(error)

    with serving(tmp_path / "data", env={"PRISM_SERVER__SHUTDOWN_SECONDS": "0.5"}) as program:
        thread = threading.Thread(target=put)
        thread.start()
        assert body.begun.wait(20)
        assert program.stop() == 0
        body.release.set()
        thread.join(20)
    assert failed
    assert failed[0] not in (200, 201)
    with serving(tmp_path / "data") as program:
        assert httpx.get(f"{program.http}{OBJECTS}/never").status_code == 404
    assert prism("fsck", "--data-dir", str(tmp_path / "data")).returncode == 0


def test_a_second_signal_ends_it_at_once(tmp_path):
    body = _SlowBody()
    with serving(tmp_path / "data", env={"PRISM_SERVER__SHUTDOWN_SECONDS": "60"}) as program:
        thread = threading.Thread(target=lambda: _try_put(program.http, body))
        thread.start()
        assert body.begun.wait(20)
        program.process.send_signal(signal.SIGTERM)
        until(lambda: _refuses(program.http), "no new connection is accepted")
        began = time.monotonic()
        assert program.stop() != 0
        assert time.monotonic() - began < 5
        body.release.set()
        thread.join(20)


def _try_put(http, body):
    try:
        httpx.put(f"{http}{OBJECTS}/x", content=iter(body), timeout=20)
    except httpx.TransportError:
        return


def test_large_heads_are_refused_and_the_connection_is_closed(tmp_path):
    with serving(tmp_path / "data", env={"PRISM_LIMITS__MAX_HEADER_BYTES": "8192"}) as program:
        assert httpx.get(program.http + "/healthz", headers={"x-much": "a" * 7000}).status_code == 200
        for piece in (9000, 300_000):
            assert httpx.get(program.http + "/healthz", headers={"x-much": "a" * piece}).status_code == 431
        assert httpx.get(program.http + "/healthz").status_code == 200


def test_a_connection_that_sends_nothing_is_ended(tmp_path):
    with serving(tmp_path / "data", env={"PRISM_LIMITS__IDLE_SECONDS": "0.3"}) as program:
        host, _, port = program.s3.removeprefix("http://").rpartition(":")
        for sent in (b"", b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "):
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.sendall(sent)
                assert connection.recv(1000) == b""


def test_memory_of_slow_callers_is_given_back_when_they_leave(tmp_path):
    with serving(tmp_path / "data") as program, PrismClient("user-uploads", endpoint=program.grpc) as client:
        client.put_object("", "large", bytes(16 << 20))
        before = _resident_bytes(program)
        channels = [PrismClient("user-uploads", endpoint=program.grpc) for _ in range(20)]
        with contextlib.ExitStack() as slow:
            for channel in channels:
                slow.enter_context(channel)
                slow.enter_context(channel.get_object("", "large"))
            host, _, port = program.http.removeprefix("http://").rpartition(":")
            for number in range(150):
                connection = slow.enter_context(socket.create_connection((host, int(port)), timeout=20))
                asked = b"GET" if number % 2 else b"PUT"
                connection.sendall(asked + f" {OBJECTS}/large HTTP/1.1\r\nHost: {host}\r\n".encode())
                connection.sendall(b"\r\n" if number % 2 else b"Content-Length: 9999999\r\n\r\n" + bytes(99_999))
            until(lambda: _resident_bytes(program) > before + (60 << 20), "the callers cost memory")
            for number in range(400):
                client.put_object("", f"small/{number}", bytes(2000))
        until(lambda: _resident_bytes(program) < before + (40 << 20), "memory is given back")


def _resident_bytes(program):
    return int(Path(f"/proc/{program.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_no_secret_is_in_what_it_says(tmp_path):
    with serving(tmp_path / "data") as program:
        with PrismClient("user-uploads", endpoint=program.grpc) as client:
            url = client.get_presigned_url("", "secret", "PUT")
        httpx.put(url, content=b"x")
        httpx.get(url)
        signature = url.rpartition("X-Amz-Signature=")[2]
        program.stop()
        everything = program.said() + (tmp_path / "data" / "audit.jsonl").read_text()
    assert signature not in everything
    assert "prism-local-user-uploads" not in everything
