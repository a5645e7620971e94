"""What the contract suite needs of an implementation of StreamFanout."""

from pathlib import Path
from typing import Protocol, Self

import pytest

from app.ports.clock import Clock
from app.ports.coordination import StreamFanoutClient, StreamFanoutServer
from app.ports.streams import Listener
from infra.lines import stream_fanout as local
from infra.lines.stream_fanout import LineStreamFanoutClient, LineStreamFanoutServer
from tests.coordination.local_lines import LocalStreamFanoutClient, LocalStreamFanoutServer
from tests.coordination.served_lines import ServedLine


class StreamFanouts(Protocol):
    """The fan-out of one node's streams. A new implementation adds one of these to STREAM_FANOUTS."""

    @classmethod
    def made(cls, folder: Path) -> Self:
        """A new one, whose files, if it has any, lie in `folder`."""
        ...

    def server(self) -> StreamFanoutServer:
        """What a process has for the time when it is the writer."""
        ...

    def client(self, clock: Clock, deliver: Listener) -> StreamFanoutClient:
        """What a process has for the time when it is not. It waits by `clock` before it connects again."""
        ...

    def limit(
        self,
        patch: pytest.MonkeyPatch,
        *,
        unsent_bytes: int | None = None,
        message_bytes: int | None = None,
        stall_s: float | None = None,
        processes: int | None = None,
    ) -> None:
        """Replace the limits that are given."""
        ...


class LocalStreamFanouts:
    """A Unix socket beside a database."""

    def __init__(self, folder: Path) -> None:
        self._database = folder / "klinenode.db"

    @classmethod
    def made(cls, folder: Path) -> Self:
        return cls(folder)

    def server(self) -> StreamFanoutServer:
        return LocalStreamFanoutServer(self._database)

    def client(self, clock: Clock, deliver: Listener) -> StreamFanoutClient:
        return LocalStreamFanoutClient(self._database, clock, deliver)

    def limit(
        self,
        patch: pytest.MonkeyPatch,
        *,
        unsent_bytes: int | None = None,
        message_bytes: int | None = None,
        stall_s: float | None = None,
        processes: int | None = None,
    ) -> None:
        given = {
            "UNSENT_BYTES_MAX": unsent_bytes,
            "MESSAGE_BYTES_MAX": message_bytes,
            "STALL_S_MAX": stall_s,
            "PROCESSES_MAX": processes,
        }
        for name, value in given.items():
            if value is not None:
                patch.setattr(local, name, value)


class RemoteStreamFanouts(LocalStreamFanouts):
    """Connections to the port of the node that holds the lease."""

    is_piped = False

    def server(self) -> StreamFanoutServer:
        return LineStreamFanoutServer(self._line())

    def client(self, clock: Clock, deliver: Listener) -> StreamFanoutClient:
        return LineStreamFanoutClient(self._line(), clock, deliver)

    def _line(self) -> ServedLine:
        return ServedLine(local.ENDING, self._database.parent, is_piped=self.is_piped)


class PipedStreamFanouts(RemoteStreamFanouts):
    """The same, where another process of the writer's host is met."""

    is_piped = True


STREAM_FANOUTS: dict[str, type[StreamFanouts]] = {
    "local": LocalStreamFanouts,
    "remote": RemoteStreamFanouts,
    "piped": PipedStreamFanouts,
}
