"""One socket client: its subscriptions, its rate limit and the frames that wait for it."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from app.binance.stream_name import NAME_CHARS_MAX
from app.domain.validity import is_fresh
from app.ports.streams import StreamsFull
from app.sockets.stream_commands import Address, Command, CommandError, accepted, parse_command
from app.sockets.stream_frames import text_frame
from app.sockets.stream_outbox import Outbox

STREAMS_MAX: Final = 1_024  # of one connection; one more closes it (binance-facts section 5.2)
MESSAGES_A_SECOND_MAX: Final = 10  # pings and pongs included (binance-facts section 5.2)
POLICY: Final = 1008
TOO_MANY: Final = b'{"error":{"code":4,"msg":"Too many subscriptions"}}'


class Wire(Protocol):
    """The connection of a client."""

    def write(self, data: bytes) -> None:
        """Send one or more whole frames; never waits."""
        ...

    def ping(self, payload: bytes) -> None:
        """Send a ping frame."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Send a close frame, wait a few seconds for the client's, and close the connection."""
        ...

    def waiting_bytes(self) -> int:
        """How many bytes were written and not yet passed to the kernel."""
        ...


class Fanout(Protocol):
    """Delivers the frames of streams to clients."""

    def enter(self, client: "Client", streams: Iterable[str]) -> None:
        """Subscribe a client to streams: to all of them, or to none and raise StreamsFull."""
        ...

    def exit(self, client: "Client", streams: Iterable[str]) -> None:
        """Unsubscribe a client from streams; those it does not have are ignored."""
        ...

    def batch(self, client: "Client") -> None:
        """Schedule `client` to be flushed within GAP_S (stream_batch.py)."""
        ...

    def sent_late(self, frames: int) -> None:
        """Count frames that were sent after waiting in an outbox."""
        ...

    def cut(self, client: "Client", reason: str) -> None:
        """Close the connection of a client that is too slow, once no loop over clients is running."""
        ...


class Client:
    """One connected client. Control messages and their answers are in binance-facts section 5.3."""

    def __init__(self, wire: Wire, fanout: Fanout, now_ms: Callable[[], int], queue_bytes_max: int) -> None:
        self.wire = wire
        self.batch: list[bytes] = []
        """Frames that the next flush writes together."""
        self.streams: dict[str, None] = {}
        self.is_combined = False
        self.is_flowing = True
        """Whether the transport accepts frames; while it does not, frames wait in the outbox."""
        self.is_over = False
        """Whether the connection is ending; nothing but the close frame is sent then."""
        self.outbox = Outbox(queue_bytes_max)
        self.opened_ms = self.pinged_ms = self.ponged_ms = self.moved_ms = now_ms()
        self.stuck_bytes = 0
        self._now_ms = now_ms
        self._fanout = fanout
        self._messages_ms: deque[int] = deque(maxlen=MESSAGES_A_SECOND_MAX + 1)

    # --- what the client says -----------------------------------------------------------------------------------

    def begin(self, address: Address) -> None:
        """Subscribe to the streams named in the URL; a refusal is sent as an error message."""
        self.is_combined = address.is_combined
        try:
            self._subscribe(address.streams)
        except CommandError as error:
            self.tell(error.answer())

    def is_polite(self) -> bool:
        """Count a message of any kind. Return whether the rate limit allows it; if not, close the connection."""
        now_ms = self._now_ms()
        self._messages_ms.append(now_ms)
        if len(self._messages_ms) <= MESSAGES_A_SECOND_MAX or not is_fresh(self._messages_ms[0], now_ms, 1_000):
            return True
        self.end(POLICY, "Too many requests")
        return False

    def ponged(self) -> None:
        """Record the time of the client's pong."""
        self.ponged_ms = self._now_ms()

    def hear(self, text: str) -> None:
        """Execute a control message and answer it; a refusal is answered with its error."""
        try:
            command = parse_command(text)
            if command.method == "SUBSCRIBE":
                self._subscribe(command.streams, command)
            else:
                self._obey(command)
        except CommandError as error:
            self.tell(error.answer())

    def _obey(self, command: Command) -> None:
        result: object = None
        if command.method == "UNSUBSCRIBE":
            left = [name for name in command.streams if name in self.streams]
            self._fanout.exit(self, left)
            for name in left:
                self.streams.pop(name, None)
        elif command.method == "LIST_SUBSCRIPTIONS":
            result = list(self.streams)
        elif command.method == "GET_PROPERTY":
            result = self.is_combined
        elif command.value is not self.is_combined:
            self._fanout.exit(self, self.streams)
            self.is_combined = command.value
            self._fanout.enter(self, self.streams)
        self.tell(accepted(command.id, result))

    def _subscribe(self, names: Iterable[str], command: Command | None = None) -> None:
        """Add streams, acknowledging `command` before their first frame; more than STREAMS_MAX close the connection.

        Raises CommandError.
        """
        added = [name for name in dict.fromkeys(names) if name not in self.streams]
        if len(self.streams) + len(added) > STREAMS_MAX:
            self.tell(TOO_MANY)
            self.end(POLICY, "Invalid request")
            return
        if any(
            len(name) > NAME_CHARS_MAX for name in added
        ):  # a client may keep 1,024 names, so their length is bounded
            text = f"Invalid request: a stream name has at most {NAME_CHARS_MAX} characters"
            raise CommandError(2, text, command.id if command else None)
        try:
            self._fanout.enter(self, added)
        except StreamsFull as error:
            raise CommandError(4, f"Too many subscriptions: {error}", command.id if command else None) from error
        self.streams.update(dict.fromkeys(added))
        if command is not None:
            self.tell(accepted(command.id))

    # --- what the client is told --------------------------------------------------------------------------------

    def tell(self, payload: bytes) -> None:
        """Send a control message's answer; it is never replaced by a newer message."""
        if not self.is_over:
            self.offer(text_frame(payload))

    def offer(self, frame: bytes) -> None:
        """Send a frame with the next flush, or keep it in the outbox while the client is slow."""
        if self.is_flowing and not self.outbox:
            if not self.batch:
                self._fanout.batch(self)
            self.batch.append(frame)
            return
        self.outbox.put(frame)
        if self.outbox.is_over:
            self._fanout.cut(self, self.too_slow())

    def too_slow(self) -> str:
        """The close reason for a client whose outbox is too large."""
        return f"Too slow: {self.outbox.bytes} bytes wait for you; read faster or subscribe to less"

    def flush(self) -> None:
        """Write the batched frames in one call."""
        if self.batch:
            batch, self.batch = self.batch, []
            self.wire.write(batch[0] if len(batch) == 1 else b"".join(batch))

    def pause(self) -> None:
        """The transport's buffer is full: keep further frames in the outbox."""
        self.is_flowing = False
        self.moved_ms, self.stuck_bytes = self._now_ms(), self.wire.waiting_bytes()

    def resume(self) -> None:
        """The transport's buffer is empty again: send the frames of the outbox until it fills up."""
        self.is_flowing = True
        waited = len(self.outbox)
        while self.is_flowing and self.outbox and not self.is_over:
            self.wire.write(self.outbox.pop())
        self._fanout.sent_late(waited - len(self.outbox))

    def end(self, code: int, reason: str) -> None:
        """Close the connection with a code and a reason; the frames in the outbox are dropped."""
        if not self.is_over:
            self.is_over = True
            self.flush()
            self.leave()
            self.wire.close(code, reason)

    def leave(self) -> None:
        """Unsubscribe from every stream and drop what waits; the connection itself is not touched."""
        self.is_over = True
        self._fanout.exit(self, self.streams)
        self.streams.clear()
        self.outbox.clear()
        self.batch.clear()
