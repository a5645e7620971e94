"""Lines between the processes of one machine, as a node has them when no other host shares its database."""

from pathlib import Path

from app.ports.clock import Clock
from app.ports.streams import Listener
from infra.lines import stream_fanout, writer_rpc
from infra.lines.stream_fanout import LineStreamFanoutClient, LineStreamFanoutServer
from infra.lines.writer_rpc import LineWriterRpc
from infra.local.unix_socket import UnixSocket


class LocalWriterRpc(LineWriterRpc):
    """Requests to the writer of a database, through a socket beside it."""

    def __init__(self, database: Path) -> None:
        super().__init__(UnixSocket(database, writer_rpc.ENDING))


class LocalStreamFanoutServer(LineStreamFanoutServer):
    """The streams of the writer of a database, through a socket beside it."""

    def __init__(self, database: Path) -> None:
        super().__init__(UnixSocket(database, stream_fanout.ENDING))


class LocalStreamFanoutClient(LineStreamFanoutClient):
    """The side of a process that does not write."""

    def __init__(self, database: Path, clock: Clock, deliver: Listener) -> None:
        super().__init__(UnixSocket(database, stream_fanout.ENDING), clock, deliver)
