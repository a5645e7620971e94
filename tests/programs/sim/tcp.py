"""A TCP connection in memory: two asyncio transports with latency, chunks and backpressure between them.

Data "in the kernel" (sent and not yet read) survives the death of the process that sent it; data in a transport's own
buffer does not.
"""

import asyncio
import socket
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

from tests.programs.sim.loop import PROCESS, Fate

if TYPE_CHECKING:
    from tests.programs.sim.network import Network

KERNEL_BYTES: Final = 128 * 1024  # send and receive buffer of one direction together
READ_BYTES_MAX: Final = 256 * 1024  # as in asyncio
HIGH_WATER: Final = 64 * 1024  # asyncio's default
RETRANSMIT_S_MAX: Final = 924.0  # Linux gives up on unacknowledged data after about fifteen minutes

_EOF: Final = b""
Chunk = tuple[float, bytes]


class FakeSocket:
    """What libraries read from a transport's socket: the addresses, and whether it is readable."""

    family, type, proto = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP

    def __init__(self, network: "Network", sockname: tuple[str, int], peername: tuple[str, int] | None) -> None:
        self._network, self._sockname, self._peername = network, sockname, peername
        self.is_readable = False

    def getsockname(self) -> tuple[str, int]:
        return self._sockname

    def getpeername(self) -> tuple[str, int]:
        if self._peername is None:
            raise OSError("not connected")
        return self._peername

    def setsockopt(self, *_: object) -> None:
        pass

    def fileno(self) -> int:
        """A descriptor that poll() reports as readable exactly when this socket would be."""
        return self._network.readable_fd if self.is_readable else self._network.quiet_fd

    def close(self) -> None:
        pass


class End(asyncio.Transport):
    """One end of a connection, as the transport of its protocol."""

    peer: "End"

    def __init__(self, link: "Link", protocol: asyncio.Protocol, context: Context, addresses: list[tuple[str, int]]):
        super().__init__()
        self.socket = FakeSocket(link.network, addresses[0], addresses[1])
        self.fate: Fate | None = context.get(PROCESS)
        self.link = link
        self.context = context
        self.vanishes = False
        """Whether data that this end sends from now on is lost on the way."""
        self._loop = link.network.loop
        self._protocol = protocol
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._in_kernel = 0  # bytes sent by this end and not yet read by the other
        self._under_way: deque[Chunk] = deque()
        self._arrival_s = 0.0
        self._inbox: deque[bytes] = deque()
        self._is_reading, self._is_paused = True, False
        self._is_closing = self._is_lost = self._wants_eof = self._eof_gone = self._eof_seen = False
        self._read_scheduled = self._is_told = False

    # --- the interface for protocols ----------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            return self.socket
        if name in ("peername", "sockname"):
            return self.socket.getpeername() if name == "peername" else self.socket.getsockname()
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol), "only streams are simulated"
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._is_closing or self._is_lost

    def is_reading(self) -> bool:
        return self._is_reading and not self.is_closing()

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True
        self._read_soon()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        self._high, self._low = high, high // 4 if low is None else low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return self._unsent_bytes

    def can_write_eof(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_lost or self._is_closing or not data:
            return
        assert not self._wants_eof, "cannot write after write_eof()"
        self.link.network.on_write(self, bytes(data))
        self._unsent.append(bytes(data))
        self._unsent_bytes += len(data)
        self._send()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self._wants_eof = True
        self._send()

    def close(self) -> None:
        if self._is_closing or self._is_lost:
            return
        self._is_closing = self._wants_eof = True
        self._send()

    def abort(self) -> None:
        if self._is_lost:
            return
        self._is_closing = True
        self.vacate()
        self._loop.call_soon(self._lost, None, context=self.context)

    # --- sending ------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        """Move data into the kernel's buffer while it has room; resume or pause the protocol accordingly."""
        if self._is_lost:
            return
        while self._unsent and self._in_kernel < KERNEL_BYTES:
            data = self._unsent.popleft()
            room = KERNEL_BYTES - self._in_kernel
            if len(data) > room:
                self._unsent.appendleft(data[room:])
                data = data[:room]
            self._unsent_bytes -= len(data)
            self._in_kernel += len(data)
            for piece in self.link.pieces(data):
                self._transmit(piece)
        if self._unsent_bytes > self._high and not self._is_paused:
            self._is_paused = True
            self._protocol.pause_writing()
        elif self._unsent_bytes <= self._low and self._is_paused:
            self._is_paused = False
            self._protocol.resume_writing()
        if self._wants_eof and not self._unsent:
            if not self._eof_gone:
                self._eof_gone = True
                self._transmit(_EOF)
            if self._is_closing:
                self._loop.call_soon(self._lost, None, context=self.context)

    def _transmit(self, chunk: bytes) -> None:
        self._arrival_s = max(self._arrival_s, self._loop.time() + self.link.latency_s(len(chunk)))
        self._under_way.append((self._arrival_s, chunk))
        if len(self._under_way) == 1:
            self._loop.call_at(self._arrival_s, self._arrive, context=self.link.network.context)

    def _arrive(self) -> None:
        """Move data whose latency has passed into the other end's inbox; while the link is blocked, try again later."""
        now_s, peer = self._loop.time(), self.peer
        if self.link.blocked_until_s > now_s:
            self._loop.call_at(self.link.blocked_until_s, self._arrive, context=self.link.network.context)
            return
        while self._under_way and self._under_way[0][0] <= now_s:
            chunk = self._under_way.popleft()[1]
            if self.vanishes:
                self.link.give_up_later(self)
            elif peer._is_lost:
                if chunk:  # a closed socket answers data with RST
                    self._loop.call_later(self.link.latency_s(0), self.reset, context=self.link.network.context)
            else:
                peer._inbox.append(chunk)
                peer.socket.is_readable = True
        if self._under_way:
            self._loop.call_at(self._under_way[0][0], self._arrive, context=self.link.network.context)
        peer._read_soon()

    # --- receiving ----------------------------------------------------------------------------------------------

    def _read_soon(self) -> None:
        if self._inbox and self._is_reading and not self._read_scheduled and not self._is_lost:
            self._read_scheduled = True
            self._loop.call_soon(self._read, context=self.context)

    def _read(self) -> None:
        self._read_scheduled = False
        if not self._is_reading or self._is_lost or self._is_closing:
            return
        taken: list[bytes] = []
        size = 0
        while self._inbox and self._inbox[0] and size < READ_BYTES_MAX:
            taken.append(self._inbox.popleft())
            size += len(taken[-1])
        if taken:
            self.peer._acknowledge(size)
            self.socket.is_readable = bool(self._inbox)
            self._protocol.data_received(b"".join(taken))
        elif self._inbox and not self._eof_seen:
            self._eof_seen = True
            if not self._protocol.eof_received():
                self.close()
            return
        if not self._eof_seen:
            self._read_soon()

    def _acknowledge(self, size: int) -> None:
        self._in_kernel -= size
        if self._unsent and not self._is_lost:
            self._loop.call_soon(self._send, context=self.context)

    # --- ending -------------------------------------------------------------------------------------------------

    def vacate(self) -> None:
        """Close the socket of a dead process: send FIN, or RST if it left data unread."""
        self._is_lost = True
        self._unsent.clear()
        self._unsent_bytes = 0
        self._hang_up()
        self.socket.is_readable = True

    def reset(self) -> None:
        """Report to the protocol that the other side, or something between, has reset the connection."""
        if self._is_lost:
            return
        self._is_lost = True
        self.socket.is_readable = True
        error = ConnectionResetError(104, "Connection reset by peer")
        self._loop.call_soon(self._lost, error, context=self.context)

    def _hang_up(self) -> None:
        if any(self._inbox):
            self._loop.call_later(self.link.latency_s(0), self.peer.reset, context=self.link.network.context)
        elif not self._eof_gone:
            self._eof_gone = True
            self._transmit(_EOF)

    def _lost(self, error: Exception | None) -> None:
        if self._is_told:
            return
        self._is_told = True
        if error is None:
            self._hang_up()
        self._is_lost = self._is_closing = True
        self.socket.is_readable = True
        self.link.network.forget(self.link)
        self._protocol.connection_lost(error)

    @property
    def is_lost(self) -> bool:
        """Whether the connection is over for the process."""
        return self._is_lost


class Link:
    """A connection: its two ends and the link's faults between them."""

    client: End
    server: End

    def __init__(self, network: "Network", surface: str) -> None:
        self.network, self.surface = network, surface
        self.blocked_until_s = 0.0
        self._is_doomed = False

    def latency_s(self, size: int) -> float:
        """Draw the latency (s) of a chunk of `size` bytes."""
        return self.network.latency_s(self.surface, size)

    def pieces(self, data: bytes) -> list[bytes]:
        """Split `data` into the chunks in which it will arrive."""
        chance = self.network.chance
        if len(data) < 2 or chance.random() >= self.network.split_share:
            return [data]
        at = chance.randrange(1, len(data))
        return [data[:at], data[at:]]

    def give_up_later(self, sender: End) -> None:
        """Reset `sender` after RETRANSMIT_S_MAX: nobody acknowledges its data."""
        if not self._is_doomed:
            self._is_doomed = True
            self.network.loop.call_later(RETRANSMIT_S_MAX, sender.reset, context=self.network.context)
