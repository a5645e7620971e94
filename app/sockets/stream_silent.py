"""Streams that clients have and nobody delivers: names that no stream has, and those of symbols that are not listed.

The exchange acknowledges them and is silent. Subscribed there they would open sockets and take the place of others.
"""

from collections.abc import Callable
from typing import Final

from app.binance.stream_name import StreamName, parse
from app.ports.streams import StreamsFull
from app.sockets.stream_client import Client
from app.sockets.stream_shares import Shares

NAMES_MAX: Final = 16_384  # of all clients together: 8 MB at the most, as names have 80 characters


class SilentNames:
    """By client, and which of them may be delivered one day."""

    def __init__(self, names_max: int = NAMES_MAX) -> None:
        self._names_max = names_max
        self._shares = Shares[Client]()
        self._waiting: dict[str, dict[Client, None]] = {}
        """By stream that would be one if its symbol were listed: who waits for it."""

    @property
    def names(self) -> int:
        """How many there are."""
        return self._shares.names

    def add(self, client: Client, stream: str, name: StreamName | None) -> tuple[Client, str] | None:
        """Keep a name; whose had to go for it, and which. Raises StreamsFull."""
        gone = None
        if self.names >= self._names_max:
            giver = self._shares.giver_to(client)
            if giver is None:
                raise StreamsFull("so many streams of unlisted symbols are subscribed already")
            gone = giver, next(reversed(self._shares.of(giver)))
            self.discard(*gone)
        self._shares.add(client, stream)
        if name is not None:
            self._waiting.setdefault(stream, {})[client] = None
        return gone

    def discard(self, client: Client, stream: str) -> None:
        """Forget a name, if it is here."""
        self._shares.discard(client, stream)
        waiting = self._waiting.get(stream)
        if waiting is not None:
            waiting.pop(client, None)
            if not waiting:
                del self._waiting[stream]

    def wanted(self) -> str | None:
        """A symbol that somebody waits for."""
        name = parse(next(iter(self._waiting), ""))
        return name.listed[0] if name is not None else None

    def found(self, is_had: Callable[[StreamName], bool]) -> list[tuple[Client, str]]:
        """The names that are streams by now, and whose they are."""
        return [
            (client, stream)
            for stream, waiting in self._waiting.items()
            if (name := parse(stream)) is not None and is_had(name)
            for client in waiting
        ]
