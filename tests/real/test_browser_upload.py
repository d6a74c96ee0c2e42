"""The documentation's browser page, in Chromium: straight to MinIO, and to a namespace that Prism itself serves."""

import asyncio
import contextlib
import functools
import http.server
import os
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, Route, async_playwright, expect
from prism_sdk import AsyncPrismClient
from stores import config_on, real_store

from prism.testing.running import Running, config_for, running_app

PAGES = Path(__file__).parents[2] / "docs" / "examples"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LARGE = os.urandom(24 * 2**20 + 17)
"""Four parts, of which the last is short."""


@contextlib.contextmanager
def site() -> Iterator[str]:
    """Serves the page from an origin of its own."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(PAGES)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "chromium is needed: apt-get install chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch_persistent_context(
            str(tmp_path / "profile"),
            executable_path=chromium,
            headless=True,
            args=list(FLAGS),
            viewport={"width": 390, "height": 844},
        )
        try:
            yield await browser.new_page()
        finally:
            await browser.close()


class Uploading:
    """The page, before one Prism."""

    def __init__(self, page: Page, running: Running, namespace: str, origin: str) -> None:
        self.page, self.running, self.namespace, self.origin = page, running, namespace, origin
        self.status = page.get_by_role("status")
        self.puts: list[str] = []
        page.on("request", lambda request: self.puts.append(request.url) if request.method == "PUT" else None)

    async def open(self) -> None:
        asked = f"server={self.running.http}&namespace={self.namespace}&prefix=web/"
        await self.page.goto(f"{self.origin}/browser-upload.html?{asked}")

    async def send(self, file: Path) -> None:
        await self.page.get_by_label("File").set_input_files(file)
        await self.page.get_by_role("button", name="Upload").click()

    async def done(self) -> None:
        await expect(self.status).to_contain_text("Done", timeout=40_000)

    async def stored(self, key: str) -> bytes:
        client = AsyncPrismClient(self.namespace, endpoint=self.running.grpc)
        async with client, client.get_object("", key) as opened:
            return await opened.read()


@pytest.fixture(params=["minio", "local"])
async def uploading(request: pytest.FixtureRequest, page: Page, tmp_path: Path) -> AsyncIterator[Uploading]:
    with site() as origin:
        async with contextlib.AsyncExitStack() as stack:
            namespace = "user-uploads"
            if request.param == "minio":
                store = await stack.enter_async_context(real_store("minio"))
                config = config_on({namespace: store}, tmp_path, server={"cors_origins": [origin]})
            else:
                file = tmp_path / "prism.yaml"
                file.write_text(f"server: {{cors_origins: ['{origin}']}}\n")
                config = config_for(tmp_path / "data", memory=False, file=file)
            running = await stack.enter_async_context(running_app(data_dir=tmp_path / "data", config=config))
            found = Uploading(page, running, namespace, origin)
            await found.open()
            yield found


async def test_small_and_large_files_arrive(uploading: Uploading, tmp_path: Path) -> None:
    for name, content in (("empty.txt", b""), ("small file & ü.txt", b"small"), ("large.bin", LARGE)):
        (tmp_path / name).write_bytes(content)
        await uploading.send(tmp_path / name)
        await uploading.done()
        assert await uploading.stored(f"web/{name}") == content
    assert await uploading.page.evaluate("localStorage.length") == 0
    if shots := os.environ.get("PRISM_TEST_SCREENSHOTS"):
        await uploading.page.screenshot(path=Path(shots) / "done.png")


async def test_a_part_that_fails_is_sent_again(uploading: Uploading, tmp_path: Path) -> None:
    (tmp_path / "large.bin").write_bytes(LARGE)
    failures = [403, 503, 0]

    async def fail(route: Route) -> None:
        if route.request.method != "PUT" or not failures:
            await route.continue_()
        elif status := failures.pop(0):
            await route.fulfill(status=status, headers={"access-control-allow-origin": "*"}, body="<Code>X</Code>")
        else:
            await route.abort("connectionreset")

    await uploading.page.route("**/*partNumber=2*", fail)
    await uploading.send(tmp_path / "large.bin")
    await uploading.done()
    assert failures == []
    assert await uploading.stored("web/large.bin") == LARGE


PART_4 = "**/*partNumber=4*"


async def hold_back(page: Page) -> asyncio.Event:
    """No PUT of the fourth part gets out; set when the page sends one."""
    held = asyncio.Event()

    async def hold(route: Route) -> None:
        if route.request.method == "PUT":
            held.set()
        else:
            await route.continue_()

    await page.route(PART_4, hold)
    return held


async def test_an_upload_goes_on_after_a_reload(uploading: Uploading, tmp_path: Path) -> None:
    (tmp_path / "large.bin").write_bytes(LARGE)
    page, held = uploading.page, await hold_back(uploading.page)
    await uploading.send(tmp_path / "large.bin")
    await asyncio.wait_for(held.wait(), 20)
    noted = "Object.keys(JSON.parse(Object.values(localStorage)[0]).crcs).length"
    await page.wait_for_function(f"{noted} >= 3", timeout=20_000)
    uploading.puts.clear()
    await page.reload()
    await page.unroute(PART_4)
    await expect(uploading.status).to_contain_text("interrupted")
    if shots := os.environ.get("PRISM_TEST_SCREENSHOTS"):
        await page.screenshot(path=Path(shots) / "interrupted.png")
    await uploading.send(tmp_path / "large.bin")
    await uploading.done()
    assert len(uploading.puts) == 1
    assert await uploading.stored("web/large.bin") == LARGE
    assert await page.evaluate("localStorage.length") == 0


async def test_pausing_and_giving_up(uploading: Uploading, tmp_path: Path) -> None:
    (tmp_path / "large.bin").write_bytes(LARGE)
    page, held = uploading.page, await hold_back(uploading.page)
    await uploading.send(tmp_path / "large.bin")
    await asyncio.wait_for(held.wait(), 20)
    await page.get_by_role("button", name="Pause").click()
    await expect(uploading.status).to_contain_text("Paused")
    held.clear()
    await page.get_by_role("button", name="Upload").click()
    await asyncio.wait_for(held.wait(), 20)
    await page.get_by_role("button", name="Give up").click()
    await expect(uploading.status).to_contain_text("Given up")
    await page.wait_for_function("localStorage.length === 0")
    await page.unroute(PART_4)
    await page.get_by_role("button", name="Upload").click()
    await uploading.done()
    assert await uploading.stored("web/large.bin") == LARGE


async def test_an_error_is_told_without_a_url(uploading: Uploading, tmp_path: Path) -> None:
    (tmp_path / "small.txt").write_bytes(b"small")
    await uploading.page.get_by_text("Server", exact=True).click()
    await uploading.page.get_by_label("Namespace").fill("no-such-namespace")
    await uploading.send(tmp_path / "small.txt")
    await expect(uploading.status).to_contain_text("NAMESPACE_NOT_FOUND")
    assert "://" not in (await uploading.status.inner_text())
    if shots := os.environ.get("PRISM_TEST_SCREENSHOTS"):
        await uploading.page.screenshot(path=Path(shots) / "failed.png")
