"""Lines over HTTP, for the contract suites: each process that serves one has a server on loopback."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from app.http.protocol import BoundedProtocol
from app.http.visits import STATE as LINES
from infra.local.unix_socket import UnixSocket
from infra.remote.lines import Holder, RemoteLine, RemoteLines

TOKEN: Final = "a token of all nodes"


class ServedLine(RemoteLine):
    """A line whose server's URL is in a file, as the lease has it. `is_piped`: a process beside the writer is met."""

    def __init__(self, service: str, folder: Path, *, is_piped: bool = False) -> None:
        local = UnixSocket(folder / "klinenode.db", service)
        super().__init__(service, local, Holder(self._url_told, "", TOKEN))
        self._file = folder / f"{service}.url"
        met = RemoteLine(service, local, Holder(_nobody, "", TOKEN)) if is_piped else self
        self._state: dict[str, object] = {LINES: RemoteLines({service: met}, TOKEN)}
        self._server: asyncio.Server | None = None
        self._url = ""

    async def serve(self, make: Callable[[], asyncio.Protocol]) -> None:
        await super().serve(make)
        config = uvicorn.Config(_nothing, http=BoundedProtocol, log_level="critical", access_log=False)
        config.load()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: BoundedProtocol(config, ServerState(), self._state, _loop=loop), "127.0.0.1", 0
        )
        self._url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._file.write_text(self._url)

    def close(self) -> None:
        super().close()
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
            if self._url_found() == self._url:
                self._file.unlink()

    async def _url_told(self) -> str | None:
        return self._url_found()

    def _url_found(self) -> str | None:
        return self._file.read_text() if self._file.exists() else None


async def _nobody() -> str | None:
    return None


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("nobody asks the application")
