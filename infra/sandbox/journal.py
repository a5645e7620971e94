"""What the sandbox was asked, in order: the witness in tests of a client's manners."""

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

ENTRIES_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One request, socket connect or control message; `query` is the request's parameters as sent."""

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
    """The newest entries; numbers go on counting when old entries are dropped."""

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
        """The kept entries whose number is greater than `number`."""
        skip = max(0, number - (self.written - len(self.entries)))
        return list(islice(self.entries, skip, None))
