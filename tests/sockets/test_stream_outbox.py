"""The outbox against a model: frames that must arrive do, each stream's newest state arrives, all in order."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.sockets.stream_outbox import FRAME_COST_BYTES, Outbox

STREAMS = ("a", "b", "c")
BYTES_MAX = 1_000


class Outboxes(RuleBasedStateMachine):
    """A frame names its stream and number; `kept` are those that must arrive, `newest` has each stream's state."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox(BYTES_MAX)
        self.number = 0
        self.kept: list[bytes] = []
        self.newest: dict[str, bytes] = {}
        self.put_in = self.taken = 0
        self.last_of: dict[str, int] = {}

    def frame(self, stream: str) -> bytes:
        self.number += 1
        self.put_in += 1
        return f"{stream}{self.number}".encode().ljust(self.number % 40, b".")

    @rule(stream=st.sampled_from(STREAMS))
    def put(self, stream: str) -> None:
        frame = self.frame(stream.upper())
        self.outbox.put(frame)
        self.kept.append(frame)

    @rule(stream=st.sampled_from(STREAMS))
    def put_state(self, stream: str) -> None:
        frame = self.newest[stream] = self.frame(stream)
        self.outbox.put_state(stream, frame)

    @rule(stream=st.sampled_from(STREAMS))
    def put_last(self, stream: str) -> None:
        frame = self.frame(stream)
        self.newest.pop(stream, None)
        self.outbox.put_last(stream, frame)
        self.kept.append(frame)

    @precondition(lambda self: len(self.outbox) > 0)
    @rule()
    def pop(self) -> None:
        frame = self.outbox.pop()
        self.taken += 1
        stream, number = chr(frame[0]), int(frame.rstrip(b".")[1:])
        assert number > self.last_of.get(stream, 0), "a stream's frames come in order"
        self.last_of[stream] = number
        if self.kept and frame == self.kept[0]:
            del self.kept[0]
        else:
            assert self.newest.pop(stream) == frame, "a state that comes is the newest one"

    @rule()
    def clear(self) -> None:
        self.outbox.clear()
        self.kept, self.newest = [], {}
        self.put_in = self.taken = 0
        self.outbox.conflated = 0

    @invariant()
    def it_holds_what_counts_and_no_more(self) -> None:
        expected = [*self.kept, *self.newest.values()]
        assert len(self.outbox) == len(expected) == self.put_in - self.taken - self.outbox.conflated
        assert self.outbox.bytes == sum(len(frame) + FRAME_COST_BYTES for frame in expected)
        assert self.outbox.is_over is (self.outbox.bytes > BYTES_MAX)


Outboxes.TestCase.settings = settings(max_examples=150, stateful_step_count=60)
TestOutboxes = Outboxes.TestCase
