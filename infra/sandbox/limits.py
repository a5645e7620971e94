"""Rate limits by IP: weight per UTC minute, 429 above the limit, then bans (binance-facts sections 1.1 to 1.3).

Funding and statistics cost no weight; each has its own bucket, which counts requests in five minutes.
"""

from dataclasses import dataclass, field

from infra.sandbox.grid import MINUTE_MS, SECOND_MS

WEIGHT_LIMIT = 2_400
REJECTIONS_BEFORE_BAN = 10  # 429 answers in a minute; one more request over the limit is banned
BANS_S = (120, 600, 3_600, 21_600, 86_400, 259_200)  # 2 minutes to 3 days, escalating
_LIMIT_DEFAULT_WEIGHT = 5


@dataclass(frozen=True, slots=True)
class Bucket:
    """A limit of requests per IP and five minutes of the UTC clock."""

    name: str
    limit: int


BUCKET_MS = 5 * MINUTE_MS
FUNDING_BUCKET = Bucket("funding", 500)
DATA_BUCKET = Bucket("futures_data", 1_000)


def klines_weight(limit: str | None) -> int:
    """The weight of a klines request by its `limit` parameter; a missing or invalid one costs 5."""
    if limit is None or not limit.isascii() or not limit.isdigit():
        return _LIMIT_DEFAULT_WEIGHT
    rows = int(limit[:9])
    if rows < 100:
        return 1
    return 2 if rows < 500 else 5 if rows <= 1_000 else 10


@dataclass(slots=True)
class _Client:
    minute: int = -1
    used: int = 0
    rejections: int = 0
    bans: int = 0
    banned_until_ms: int = 0
    tell_retry_after: bool = True
    tell_until: bool = True
    requests: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By bucket or path: the number of its current five minutes, and the requests in them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about a request: `status` 200 (admitted), 429 or 418, and the weight used in this minute."""

    status: int
    used_weight: int
    retry_after_s: int | None = None
    banned_until_ms: int | None = None


@dataclass(slots=True)
class WeightLimiter:
    """Counts weight and bans per IP. The public counters are totals over all IPs, for tests."""

    weight_limit: int = WEIGHT_LIMIT
    data_limit_per_path: bool = False
    """Whether DATA_BUCKET is one for each path."""
    used_weight_max: int = 0
    answers_429: int = 0
    answers_418: int = 0
    bans: int = 0
    weight_total: int = 0
    bucket_totals: dict[str, int] = field(default_factory=lambda: {FUNDING_BUCKET.name: 0, DATA_BUCKET.name: 0})
    _clients: dict[str, _Client] = field(default_factory=dict)

    def admit(self, ip: str, weight: int, now_ms: int) -> Verdict:
        """Count `weight` for `ip` and decide about the request."""
        client = self._clients.setdefault(ip, _Client())
        minute = now_ms // MINUTE_MS
        if client.minute != minute:
            client.minute, client.used, client.rejections = minute, 0, 0
        if now_ms < client.banned_until_ms:
            return self._banned(client, now_ms)
        client.used += weight
        self.weight_total += weight
        self.used_weight_max = max(self.used_weight_max, client.used)
        if client.used <= self.weight_limit:
            return Verdict(200, client.used)
        client.rejections += 1
        if client.rejections > REJECTIONS_BEFORE_BAN:
            self.ban(ip, BANS_S[min(client.bans, len(BANS_S) - 1)], now_ms)
            return self._banned(client, now_ms)
        self.answers_429 += 1
        return Verdict(429, client.used, _seconds_until((minute + 1) * MINUTE_MS, now_ms))

    def admit_to(self, bucket: Bucket, ip: str, now_ms: int, path: str) -> Verdict:
        """Count a request in `bucket` and decide about it. A ban applies here too, but too many requests start none."""
        client = self._clients.setdefault(ip, _Client())
        if now_ms < client.banned_until_ms:
            return self._banned(client, now_ms)
        self.bucket_totals[bucket.name] += 1
        name = path if self.data_limit_per_path and bucket is DATA_BUCKET else bucket.name
        period = now_ms // BUCKET_MS
        counted, requests = client.requests.get(name, (period, 0))
        requests = requests + 1 if counted == period else 1
        client.requests[name] = (period, requests)
        if requests <= bucket.limit:
            return Verdict(200, client.used)
        self.answers_429 += 1
        return Verdict(429, client.used, _seconds_until((period + 1) * BUCKET_MS, now_ms))

    def ban(
        self, ip: str, duration_s: int, now_ms: int, *, tell_retry_after: bool = True, tell_until: bool = True
    ) -> None:
        """Ban `ip` for `duration_s` seconds; header and message state the end of the ban unless told not to."""
        client = self._clients.setdefault(ip, _Client())
        client.bans += 1
        self.bans += 1
        client.banned_until_ms = now_ms + duration_s * SECOND_MS
        client.tell_retry_after, client.tell_until = tell_retry_after, tell_until

    def used(self, ip: str, now_ms: int) -> int:
        """The weight that `ip` has used in the minute of `now_ms`."""
        client = self._clients.get(ip)
        return client.used if client and client.minute == now_ms // MINUTE_MS else 0

    def pardon(self) -> None:
        """Lift every ban."""
        for client in self._clients.values():
            client.banned_until_ms = 0

    def _banned(self, client: _Client, now_ms: int) -> Verdict:
        self.answers_418 += 1
        retry_after_s = _seconds_until(client.banned_until_ms, now_ms) if client.tell_retry_after else None
        return Verdict(418, client.used, retry_after_s, client.banned_until_ms if client.tell_until else None)


def _seconds_until(time_ms: int, now_ms: int) -> int:
    return max(1, -(-(time_ms - now_ms) // SECOND_MS))


class Pool:
    """Credits that refill steadily: `refill` of them in `per_ms`, up to `size`."""

    def __init__(self, size: int, refill: int, per_ms: int) -> None:
        self._size, self._refill, self._per_ms = size * per_ms, refill, per_ms
        self._left, self._at_ms = self._size, 0

    def take(self, cost: int, now_ms: int) -> bool:
        """Spend credits; false, and nothing is spent, if there are too few."""
        self._left = min(self._size, self._left + max(0, now_ms - self._at_ms) * self._refill)
        self._at_ms = now_ms
        if self._left < cost * self._per_ms:
            return False
        self._left -= cost * self._per_ms
        return True
