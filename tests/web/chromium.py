"""Headless Chromium, driven by its DevTools protocol; each page notes what it asked for and what went wrong."""

import asyncio
import base64
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.system.processes import Programs, until

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDS_CHROMIUM: Final = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (apt-get install chromium)")
ANSWER_S_MAX: Final = 30.0  # of one command, on a busy machine
SHOWN_S_MAX: Final = 60.0  # until a page shows what it is to show; half a second where nothing else runs
FLAGS: Final = (
    "--headless=new",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--hide-scrollbars",
    "--log-level=3",
    "--lang=en-GB",
    "--no-first-run",
    "--no-proxy-server",
    "--remote-debugging-port=0",
    "about:blank",
)
CODES: Final = {"ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40, "ArrowUp": 38, "Enter": 13, "Escape": 27, "Tab": 9}
"""Of keys that print nothing, as the DOM numbers them."""
TEXTS: Final = {"Enter": "\r"}  # without it a button in focus is not pressed
SHIFT: Final = 8


class Browser:
    """A connection to a browser: commands with their answers, and events by session."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listeners: dict[str, Callable[[str, dict[str, Any]], None]] = {}

    async def send(self, method: str, session: str = "", **parameters: object) -> dict[str, Any]:
        """The answer to a command. Raises AssertionError for an error of the browser."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(orjson.dumps(message).decode())
        async with asyncio.timeout(ANSWER_S_MAX):
            answer = await self._waiting[number]
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    async def read(self) -> None:
        """Hand on answers and events until the connection ends."""
        async for text in self._socket:
            message = orjson.loads(text)
            if "id" in message:
                self._waiting.pop(message["id"]).set_result(message)
            elif (listener := self._listeners.get(message.get("sessionId", ""))) is not None:
                listener(message["method"], message["params"])

    async def page(self, *, width: int = 1280, height: int = 900, scale: float = 1, before: str = "") -> "Page":
        """A page in a profile of its own; the script `before` runs in it before any other."""
        context = (await self.send("Target.createBrowserContext"))["browserContextId"]
        target = (await self.send("Target.createTarget", url="about:blank", browserContextId=context))["targetId"]
        session = (await self.send("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        made = Page(self, session, context)
        self._listeners[session] = made.note
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable", session)
        await made.resize(width, height, scale)
        await self.send("Emulation.setFocusEmulationEnabled", session, enabled=True)  # as if it were in front
        if before:
            await self.send("Page.addScriptToEvaluateOnNewDocument", session, source=before)
        return made


class Page:
    """One page: its address, its keys, what its scripts say."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self._browser = browser
        self._session = session
        self._context = context
        self.requests: list[str] = []
        """Every address that it asked for, sockets included."""
        self.errors: list[str] = []
        """What it printed as an error or a warning, exceptions, and what its policy forbade."""

    def note(self, method: str, parameters: dict[str, Any]) -> None:
        """Take an event of the browser."""
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requests.append(parameters["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.errors.append(str(parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")

    async def go(self, url: str) -> None:
        """Load an address; its scripts may still be at work."""
        found = await self._browser.send("Page.navigate", self._session, url=url)
        assert "errorText" not in found, found

    async def value(self, expression: str) -> Any:
        """What an expression is; awaited if it is a promise. Raises AssertionError for an exception."""
        found = await self._browser.send(
            "Runtime.evaluate", self._session, expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, f"{expression}: {found['exceptionDetails']}"
        return found["result"].get("value")

    async def until(self, expression: str, what: str, within_s: float = SHOWN_S_MAX) -> Any:
        """Wait until an expression is true, and return it."""

        async def is_true() -> Any:
            return await self.value(expression)

        try:
            return await until(is_true, what, within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; errors of the page: {self.errors}") from error

    async def press(self, key: str, times: int = 1, *, shift: bool = False) -> None:
        """Press and release a key."""
        for _ in range(times):
            text = {"text": TEXTS.get(key, key)} if key in TEXTS or len(key) == 1 else {}
            code = {"windowsVirtualKeyCode": CODES[key]} if key in CODES else {}
            for kind in ("keyDown", "keyUp"):
                await self._browser.send(
                    "Input.dispatchKeyEvent", self._session, type=kind, key=key, **(text if kind == "keyDown" else {}),
                    **code, modifiers=SHIFT if shift else 0,
                )  # fmt: skip

    async def resize(self, width: int, height: int, scale: float = 1) -> None:
        """Change the size of its window; one narrower than 500 px is a phone's."""
        await self._browser.send(
            "Emulation.setDeviceMetricsOverride", self._session, width=width, height=height, deviceScaleFactor=scale,
            mobile=width < 500,
        )  # fmt: skip

    async def type(self, text: str) -> None:
        """Type a text where the focus is."""
        await self._browser.send("Input.insertText", self._session, text=text)

    async def picture(self, file: Path) -> None:
        """Write what is seen into a PNG."""
        found = await self._browser.send("Page.captureScreenshot", self._session, format="png")
        await asyncio.to_thread(file.write_bytes, base64.b64decode(found["data"]))

    async def heap_bytes(self) -> int:
        """What its scripts keep, after a collection of garbage."""
        await self._browser.send("HeapProfiler.collectGarbage", self._session)
        found: int = (await self._browser.send("Runtime.getHeapUsage", self._session))["usedSize"]
        return found

    async def close(self) -> None:
        """End it and everything that it keeps."""
        await self._browser.send("Target.disposeBrowserContext", browserContextId=self._context)

    def assert_clean(self, origin: str) -> None:
        """Assert that nothing went wrong and that no request left `origin`, such as `127.0.0.1:8000`."""
        assert self.errors == [], self.errors
        places = (f"http://{origin}/", f"ws://{origin}/", "data:")
        foreign = [each for each in self.requests if not each.startswith(places)]
        assert foreign == [], foreign


@asynccontextmanager
async def chromium(programs: Programs) -> AsyncIterator[Browser]:
    """A running browser with a profile in the programs' folder."""
    assert CHROMIUM is not None
    profile = programs.folder / "chromium"
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    shared = "--disable-dev-shm-usage"  # containers have 64 MB of it
    command = (CHROMIUM, f"--user-data-dir={profile}", shared, *sandbox)
    programs.start(*FLAGS, command=command, env={"HOME": str(programs.folder)})
    port = profile / "DevToolsActivePort"

    async def says_where() -> list[str]:
        return port.read_text().splitlines() if port.exists() else []

    number, path = await until(says_where, "the browser says where it listens")
    async with connect(f"ws://127.0.0.1:{number}{path}", proxy=None, max_size=None) as socket:
        browser = Browser(socket)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(browser.read())
            try:
                yield browser
            finally:
                reading.cancel()
