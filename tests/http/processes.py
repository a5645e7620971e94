"""Two processes of a node: a reader, and the writer that answers what only it can."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.http.forward import answer_by
from app.ports.tracing import RequestTraces
from tests.coordination.local_lines import LocalWriterRpc
from tests.http.fakes import FakeLine, Node


@asynccontextmanager
async def processes(
    folder: Path, token: str | None = None, traces: tuple[RequestTraces | None, RequestTraces | None] = (None, None)
) -> AsyncIterator[tuple[Node, Node]]:
    """A reader with an RPC connection, and the writer at its other end."""
    writer, end = Node(admin_token=token, traces=traces[1]), LocalWriterRpc(folder / "klinenode.db")
    await end.open(lambda asked: answer_by(writer.app, asked))
    try:
        line = FakeLine(LocalWriterRpc(folder / "klinenode.db"))
        yield Node(admin_token=token, line=line, traces=traces[0]), writer
    finally:
        await end.close()
