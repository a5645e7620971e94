"""The decision about each request of a node with API keys: whether its key is known and has quota left this minute."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final, Protocol

from app.access.api_keys import NO_KEY, NO_KEYS, ApiKey, ApiKeys
from app.binance.error_body import BinanceError, key_malformed, key_refused, too_many_requests
from app.ports.clock import Clock
from app.ports.coordination import QuotaCounter

STATE: Final = "key-gate"  # key of the KeyGate in the application's lifespan state
OPEN_PATHS: Final = frozenset({"/", "/docs", "/openapi.json", "/v1/health", "/v1/ready", "/metrics"})
"""What monitoring asks for, and the pages that say how to send a key."""
OPEN_FOLDERS: Final = ("/docs/", "/assets/", "/v1/admin/")
"""The assets of /docs and of the dashboard, and the admin routes, which have a token of their own."""
_COLLECTOR: Final = re.compile(r"/api/v1/exchanges/[^/]*/subscribe")  # needs the admin token, as /v1/admin/ does
MINUTE_MS: Final = 60_000
_VERSION_BITS: Final = 12


class Session(Protocol):
    """A socket that was opened with a key."""

    def revoke(self) -> None:
        """Close the connection: the key is no longer known."""
        ...


class KeyGate:
    """Admits requests by their keys, and counts them together with the other processes of the node.

    Without a file of keys there is no KeyGate. One that has read none admits nobody.
    """

    def __init__(self, clock: Clock, quota: QuotaCounter) -> None:
        self._clock = clock
        self._quota = quota
        self._keys = NO_KEYS
        self._version = 0
        self._sessions: dict[bytes, set[Session]] = {}
        self.admitted: Counter[str] = Counter()
        """Requests of this process that were admitted, by the name of the key."""
        self.refused: Counter[str] = Counter({"missing": 0, "unknown": 0, "quota": 0})
        """Requests of this process that were refused, by reason."""

    @property
    def keys(self) -> int:
        """How many keys are known."""
        return len(self._keys)

    def use(self, keys: ApiKeys) -> None:
        """Admit by `keys` from now on, counting from zero, and close the sockets of keys that are gone."""
        self._keys = keys
        self._version = keys.version % (1 << _VERSION_BITS)
        for name in self.admitted.keys() - keys.names:
            del self.admitted[name]
        for digest in self._sessions.keys() - keys.digests:
            for session in tuple(self._sessions[digest]):
                session.revoke()

    def is_open(self, path: str) -> bool:
        """Whether a path needs no key."""
        is_collector = path.startswith("/api/") and _COLLECTOR.fullmatch(path) is not None
        return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS) or is_collector

    def find(self, caller: bytes, now_ms: int) -> ApiKey | None:
        """The key of a caller that may be answered now; None if it has to be refused. Counts nothing."""
        key = self._keys.find(caller)
        if key is None or self._quota.used(key.row, self._period(now_ms)) >= key.per_minute:
            return None
        return key

    def count(self, key: ApiKey, now_ms: int) -> None:
        """Count a request that is answered."""
        self._quota.add(key.row, self._period(now_ms))
        self.admitted[key.name] += 1

    def admit(self, caller: bytes) -> BinanceError | None:
        """Count a request and return None, or return why it is refused."""
        now_ms = self._clock.now_ms()
        if (key := self.find(caller, now_ms)) is not None:
            self.count(key, now_ms)
            return None
        if caller == NO_KEY:
            self.refused["missing"] += 1
            return key_malformed()
        if (known := self._keys.find(caller)) is None:
            self.refused["unknown"] += 1
            return key_refused()
        self.refused["quota"] += 1
        return too_many_requests(known.per_minute, 1 + (MINUTE_MS - 1 - now_ms % MINUTE_MS) // 1000)

    def enter(self, caller: bytes, session: Session) -> None:
        """Remember a socket, to close it when its key is gone."""
        self._sessions.setdefault(caller, set()).add(session)

    def leave(self, caller: bytes, session: Session) -> None:
        """Forget a socket, which has closed."""
        held = self._sessions.get(caller, set())
        held.discard(session)
        if not held:
            self._sessions.pop(caller, None)

    def samples(self) -> Iterable[tuple[dict[str, str], float]]:
        """By the name of the key: admitted requests, for the metrics."""
        return [({"key": name}, n) for name, n in sorted(self.admitted.items())]

    def refusals(self) -> Iterable[tuple[dict[str, str], float]]:
        """By reason: refused requests, for the metrics."""
        return [({"reason": reason}, n) for reason, n in sorted(self.refused.items())]

    def _period(self, now_ms: int) -> int:
        """A number of its own for each minute and version of the file."""
        return (now_ms // MINUTE_MS << _VERSION_BITS) + self._version
