"""Two processes of a node: a reader, and the writer that answers what only it can."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.http.forward import answer_by
from tests.coordination.local_lines import LocalWriterRpc
from tests.http.fakes import FakeLine, Node


@asynccontextmanager
async def processes(folder: Path, token: str | None = None) -> AsyncIterator[tuple[Node, Node]]:
    """A reader with an RPC connection, and the writer at its other end."""
    writer, end = Node(admin_token=token), LocalWriterRpc(folder / "klinenode.db")
    await end.open(lambda asked: answer_by(writer.app, asked))
    try:
        yield Node(admin_token=token, line=FakeLine(LocalWriterRpc(folder / "klinenode.db"))), writer
    finally:
        await end.close()
