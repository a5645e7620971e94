"""What the contract suite needs of an implementation of WriterRpc."""

from pathlib import Path
from typing import Protocol, Self

import pytest

from app.ports.coordination import WriterRpc
from infra.lines import writer_rpc as local
from infra.lines.writer_rpc import LineWriterRpc
from tests.coordination.local_lines import LocalWriterRpc
from tests.coordination.served_lines import ServedLine


class WriterRpcs(Protocol):
    """The processes of one node. A new implementation adds one of these to WRITER_RPCS."""

    @classmethod
    def made(cls, folder: Path) -> Self:
        """A new node, whose files, if it has any, lie in `folder`."""
        ...

    def process(self) -> WriterRpc:
        """What one process has."""
        ...

    def limit(
        self,
        patch: pytest.MonkeyPatch,
        *,
        requests: int | None = None,
        request_s: float | None = None,
        request_bytes: int | None = None,
        response_bytes: int | None = None,
    ) -> None:
        """Replace the limits that are given."""
        ...


class LocalWriterRpcs:
    """Unix sockets beside a database."""

    def __init__(self, folder: Path) -> None:
        self._database = folder / "klinenode.db"

    @classmethod
    def made(cls, folder: Path) -> Self:
        return cls(folder)

    def process(self) -> WriterRpc:
        return LocalWriterRpc(self._database)

    def limit(
        self,
        patch: pytest.MonkeyPatch,
        *,
        requests: int | None = None,
        request_s: float | None = None,
        request_bytes: int | None = None,
        response_bytes: int | None = None,
    ) -> None:
        given = {
            "REQUESTS_MAX": requests,
            "REQUEST_S_MAX": request_s,
            "REQUEST_BYTES_MAX": request_bytes,
            "RESPONSE_BYTES_MAX": response_bytes,
        }
        for name, value in given.items():
            if value is not None:
                patch.setattr(local, name, value)


class RemoteWriterRpcs(LocalWriterRpcs):
    """Connections to the port of the node that holds the lease."""

    is_piped = False

    def process(self) -> WriterRpc:
        return LineWriterRpc(ServedLine(local.ENDING, self._database.parent, is_piped=self.is_piped))


class PipedWriterRpcs(RemoteWriterRpcs):
    """The same, where another process of the writer's host is met."""

    is_piped = True


WRITER_RPCS: dict[str, type[WriterRpcs]] = {
    "local": LocalWriterRpcs,
    "remote": RemoteWriterRpcs,
    "piped": PipedWriterRpcs,
}
