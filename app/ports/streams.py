"""The exchange's streams: kline sockets, and a hub that shares streams of any kind."""

from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import Protocol

from app.binance.stream_event import KlineEvent
from app.domain.series import Series


class MarketSockets(Protocol):
    """Kline streams. Runs until cancelled; reconnects by itself."""

    def want(self, streams: Collection[Series]) -> None:
        """Set which series are streamed; takes effect without a restart."""
        ...

    def events(self) -> AsyncIterator[KlineEvent]:
        """Kline events as they arrive, for ever."""
        ...

    async def run(self) -> None:
        """Keep the sockets that the wanted streams need, for ever."""
        ...

    def heard_ms(self, series: Series) -> int | None:
        """The event time of the newest frame on a socket whose stream of `series` is alive; None when there is none.

        A symbol without trades sends nothing between its closing frames, so the socket speaks for its streams, unless
        a stream has missed whole minutes, or is so busy that its own silence means something.
        """
        ...

    def exists(self, series: Series, closed_ms: int) -> None:
        """REST has a closed kline of `series` that ends at `closed_ms`: one that kept silent is sick, not quiet."""
        ...

    def status(self) -> dict[str, object]:
        """Per socket: streams, age of the newest frame in ms, connects; for health."""
        ...


Listener = Callable[[str, bytes], None]
"""Takes the name of a stream and an event as the exchange wrote it ("data" of the combined form). Never waits."""


class StreamsFull(Exception):
    """As many different streams are subscribed as may be; the message says what to do."""


class StreamHub(Protocol):
    """Every market stream of the exchange, subscribed once however many listen. Names are Binance's, lower case."""

    def join(self, stream: str, listener: Listener) -> None:
        """Hear a stream from now on; the first listener has it subscribed. Raises StreamsFull.

        A name that no stream has stays silent, as at the exchange.
        """
        ...

    def leave(self, stream: str, listener: Listener) -> None:
        """Hear it no more; without listeners it is released after a while. Unknown ones are fine."""
        ...

    def heard_ms(self, stream: str) -> int | None:
        """When the newest frame of the stream came.

        None when there was none since it was subscribed (again), or when it is silent for longer than its kind ever
        is: what came before says nothing about now. Between two frames of a stream that is alive nothing happened.
        """
        ...


class StreamSource(Protocol):
    """Where a hub gets its frames from: the exchange, or the process that has them from there."""

    def add(self, streams: Iterable[str]) -> None:
        """Deliver these too; takes effect without a restart."""
        ...

    def remove(self, streams: Iterable[str]) -> None:
        """Deliver these no more."""
        ...

    def heard_ms(self, stream: str) -> int | None:
        """See StreamHub."""
        ...
