"""The log of all requests to the sandbox, by which tests check the behaviour of clients."""

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

ENTRIES_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One request, socket connection or control message; `query` has the request's parameters as sent."""

    n: int
    time_ms: int
    kind: str
    path: str
    query: dict[str, str]
    status: int
    weight: int
    used_weight_1m: int
    banned: bool = False
    detail: str = ""


@dataclass(slots=True)
class Journal:
    """The newest ENTRIES_MAX entries, numbered from 1 for the first request ever."""

    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=ENTRIES_MAX))
    written: int = 0
    banned_requests: int = 0

    def write(
        self,
        time_ms: int,
        kind: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        status: int = 0,
        weight: int = 0,
        used_weight_1m: int = 0,
        banned: bool = False,
        detail: str = "",
    ) -> None:
        """Append an entry."""
        self.written += 1
        self.banned_requests += banned
        entry = Entry(self.written, time_ms, kind, path, query or {}, status, weight, used_weight_1m, banned, detail)
        self.entries.append(entry)

    def since(self, number: int) -> list[Entry]:
        """The entries with a number above `number` that are still kept."""
        skip = max(0, number - (self.written - len(self.entries)))
        return list(islice(self.entries, skip, None))
