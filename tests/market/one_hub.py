"""A fake hub with one listener for each stream, through which a test delivers events."""

from app.ports.streams import Listener, StreamsFull


class OneHub:
    """Accepts one listener for each stream; raises StreamsFull while `is_full`."""

    def __init__(self) -> None:
        self.listeners: dict[str, Listener] = {}
        self.is_full = False

    def join(self, stream: str, listener: Listener) -> None:
        if self.is_full:
            raise StreamsFull("no room")
        assert stream not in self.listeners
        self.listeners[stream] = listener

    def leave(self, stream: str, listener: Listener) -> None:
        assert self.listeners.pop(stream) == listener

    def heard_ms(self, stream: str) -> int | None:
        raise AssertionError("what is held is judged by what its rows say")
