"""The limits of the HTTP parts: bare ASGI applications under the same uvicorn.

`python -m tests.programs.bench.raw fixed PORT FILE` answers every request with the answer in FILE;
`python -m tests.programs.bench.raw joined PORT FILE` joins its body from parts each time;
`python -m tests.programs.bench.raw rows PORT DATABASE` answers with fetchall and orjson, in threads.
"""

import asyncio
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import orjson
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from app.listening import listen
from infra.sqlite.library import sqlite3

THREADS: Final = 4  # as many as a node's reading connections
PART_BYTES: Final = 64 * 1024  # 500 rows
COLUMNS: Final = (
    "open_time, open, high, low, close, volume, open_time + 59999, quote_volume, trades, "
    "taker_buy_volume, taker_buy_quote_volume, '0'"
)
SELECT: Final = f"SELECT {COLUMNS} FROM kline_1m WHERE symbol = ? AND open_time >= ? ORDER BY open_time LIMIT ?"


def reply_file(path: Path, status: int, headers: list[tuple[str, str]], body: bytes) -> Path:
    """Write the file with an answer for `fixed`."""
    path.write_bytes(orjson.dumps({"status": status, "headers": headers, "body": body.decode("latin-1")}))
    return path


def fixed(path: Path) -> ASGIApp:
    """An application that answers every request with the answer in `path`."""
    reply = orjson.loads(path.read_bytes())
    headers = [(name.encode(), value.encode()) for name, value in reply["headers"]]
    start = {"type": "http.response.start", "status": reply["status"], "headers": headers}
    body = {"type": "http.response.body", "body": reply["body"].encode("latin-1")}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start)
        await send(body)

    return app


def joined(path: Path) -> ASGIApp:
    """An application that joins the body of the answer in `path` anew for every request."""
    reply = orjson.loads(path.read_bytes())
    start = {
        "type": "http.response.start",
        "status": reply["status"],
        "headers": [(name.encode(), value.encode()) for name, value in reply["headers"]],
    }
    body = reply["body"].encode("latin-1")
    parts = [body[at : at + PART_BYTES] for at in range(0, len(body), PART_BYTES)]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start)
        await send({"type": "http.response.body", "body": b"".join(parts)})

    return app


def bare_read(connection: sqlite3.Connection, symbol: str, start_ms: int, limit: int) -> bytes:
    """The body that a client gets, made by the shortest way in Python."""
    return orjson.dumps(connection.execute(SELECT, (symbol, start_ms, limit)).fetchall())


def opened(database: Path) -> sqlite3.Connection:
    """A read-only connection with the same page cache as the node's."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, check_same_thread=False)
    connection.execute("PRAGMA cache_size = -16384")
    return connection


def rows(database: Path) -> ASGIApp:
    """An application that answers with `bare_read` in threads."""
    mine = threading.local()

    def read(symbol: str, start_ms: int, limit: int) -> bytes:
        if not hasattr(mine, "connection"):
            mine.connection = opened(database)
        return bare_read(mine.connection, symbol, start_ms, limit)

    pool = ThreadPoolExecutor(THREADS)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked = parse_qs(scope["query_string"].decode())
        symbol, start_ms, limit = asked["symbol"][0], int(asked["startTime"][0]), int(asked["limit"][0])
        body = await asyncio.get_running_loop().run_in_executor(pool, read, symbol, start_ms, limit)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


KINDS: Final[dict[str, Callable[[Path], ASGIApp]]] = {"fixed": fixed, "joined": joined, "rows": rows}


def main() -> None:
    """Serve one of the applications until the process is killed."""
    kind, port, path = sys.argv[1:]
    app: Any = KINDS[kind](Path(path))
    config = uvicorn.Config(
        app,
        http="httptools",
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    uvicorn.Server(config).run([listen("127.0.0.1", int(port))])


if __name__ == "__main__":
    main()
