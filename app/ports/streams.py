"""The exchange's streams: the kline streams of the held series, and a hub that shares streams of any kind."""

from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import Protocol

from app.binance.stream_event import KlineEvent
from app.domain.series import Series


class MarketSockets(Protocol):
    """Kline streams of the exchange. `run` lasts until cancelled and reconnects by itself."""

    def want(self, streams: Collection[Series]) -> None:
        """Set the series to stream; takes effect at once."""
        ...

    def events(self) -> AsyncIterator[KlineEvent]:
        """Kline events as they arrive, for ever."""
        ...

    async def run(self) -> None:
        """Open and keep the sockets that the wanted streams need, for ever."""
        ...

    def heard_ms(self, series: Series) -> int | None:
        """The event time (ms) of the newest frame that shows the stream of `series` to be alive; None when it is not.

        A symbol without trades sends nothing between its closing frames, so a frame of any stream on the same socket
        counts. Exceptions: a stream without a frame for a whole minute is not alive, and for a busy stream only its own
        frames count.
        """
        ...

    def exists(self, series: Series, closed_ms: int) -> None:
        """Report that REST has a closed kline of `series` ending at `closed_ms`: a silent stream of it is broken."""
        ...

    def status(self) -> dict[str, object]:
        """For /v1/health, by socket: number of streams, age of the newest frame in ms, number of connects."""
        ...


Listener = Callable[[str, bytes], None]
"""Called with a stream's name and an event as the exchange wrote it ("data" of a combined frame). Never blocks."""


class StreamsFull(Exception):
    """The limit of different streams is reached; the message says what to do."""


class StreamHub(Protocol):
    """All market streams of the exchange, each subscribed once for all its listeners. Names are Binance's."""

    def join(self, stream: str, listener: Listener) -> None:
        """Add a listener to a stream; the first one causes the subscription. Raises StreamsFull.

        A name that no stream has delivers nothing, as at the exchange (binance-facts section 5.1).
        """
        ...

    def leave(self, stream: str, listener: Listener) -> None:
        """Remove a listener; a stream without listeners is unsubscribed after a while. Unknown ones are ignored."""
        ...

    def heard_ms(self, stream: str) -> int | None:
        """When the newest frame of the stream was received (ms); None when the stream may be dead.

        That is when there was no frame since it was last subscribed, or when it has been silent for longer than streams
        of its kind are. If the stream is alive, nothing has happened at the exchange since its newest frame.
        """
        ...


class StreamSource(Protocol):
    """Where a hub gets its frames: the exchange, or the writer process, which is connected to it."""

    def add(self, streams: Iterable[str]) -> None:
        """Also deliver `streams`; takes effect at once."""
        ...

    def remove(self, streams: Iterable[str]) -> None:
        """Stop delivering `streams`."""
        ...

    def heard_ms(self, stream: str) -> int | None:
        """When the newest frame of the stream was received (ms); None when the stream may be dead."""
        ...
