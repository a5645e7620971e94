"""What a seed plays against the sandbox: one exchange, its instruments, and which mishaps happen when."""

from dataclasses import dataclass
from random import Random
from typing import Final

from app.domain.records import DataType
from infra.sandbox.grid import MINUTE_MS, SECOND_MS, utc_ms

EXCHANGES: Final = ("binance", "okx", "deribit")
BEGINNINGS: Final = (utc_ms(2026, 11, 20, 23, 58), utc_ms(2026, 11, 21, 7, 58), utc_ms(2026, 11, 21, 10, 58))
"""Two minutes before rates are paid: by all at midnight, where OKX's channels of a day begin, and at 8; by Deribit."""
QUIET_MS: Final = 95 * SECOND_MS
"""Without mishaps at the end: longer than the longest pause between attempts, and a book's repeated snapshot."""
ACTIVE_MS: Final = (50 * SECOND_MS, 130 * SECOND_MS)
MISHAPS_MAX: Final = 20
LASTING_MS: Final = (1_000, 40_000)

FRAMES: Final = ("gap", "gap", "duplicate", "reorder", "malformed_frame", "silence")
SOCKETS: Final = ("cut", "cut_all", "half_open", "rotation", "refuse", "handshake_hang", "slow_network")
SUBSCRIPTIONS: Final = ("error_answer", "snapshot_missing", "reset", "unfollow")
REST: Final = ("http_5xx", "http_429", "malformed", "slow", "rest_lost")
PROCESS: Final = ("kill", "kill", "kill")
STREAM: Final = ("stream_away", "stream_unsure", "stream_full", "stream_killed")
MISHAPS: Final = FRAMES + SOCKETS + SUBSCRIPTIONS + REST + PROCESS + STREAM

_INSTRUMENTS: Final = {
    "binance": (("ADAUSDT", "XRPUSDT"), ("DOGEUSDT", "ADAUSDT"), ("XRPUSDT", "DOGEUSDT")),
    "okx": (("BTC-USDT-SWAP", "BTC-USDT"), ("BTC-USD-SWAP", "SOL-USDT-SWAP"), ("BTC-USDT", "BTC-USDT-SWAP")),
    "deribit": (
        ("BTC-PERPETUAL", "ETH-PERPETUAL"),
        ("BTC_USDC-PERPETUAL", "BTC-PERPETUAL"),
        ("ETH-PERPETUAL", "BTC_USDC-PERPETUAL"),
    ),
}
"""By exchange: an instrument of which all is followed, and one of which trades and klines are."""


_OTHERS: Final = tuple(each for each in DataType if each is not DataType.TRADE)


@dataclass(frozen=True)
class VenuePlan:
    """One seed's run. Times in ms."""

    seed: int
    exchange: str
    begin_ms: int
    active_ms: int
    instruments: tuple[str, str]
    types: tuple[DataType, ...]
    """What is followed of the first instrument: not all in each seed, to play more seeds."""
    is_double: bool
    """Whether trades and klines of the second instrument are followed too."""
    rate: float
    book_ticks: int
    levels: int
    """Levels of a side that Binance's REST ends at: the book goes on behind them, as the real one behind 1,000."""
    tick_ms: int
    """How often the exchange's sockets are served."""
    age_ms_max: int | None
    """The age at which a socket is replaced; None: older than the seed."""
    batch: int
    mishaps: tuple[tuple[int, str], ...]

    @property
    def quiet_from_ms(self) -> int:
        """When the last mishap is over."""
        return self.begin_ms + self.active_ms

    @property
    def end_ms(self) -> int:
        """When the seed ends."""
        return self.quiet_from_ms + QUIET_MS


def plan(seed: int, exchange: str) -> VenuePlan:
    """The plan of a seed."""
    chance = Random(f"{exchange} {seed}")
    kinds = chance.sample(sorted(set(MISHAPS)), chance.randint(2, len(set(MISHAPS))))
    allowed = [kind for kind in MISHAPS if kind in kinds]
    begin_ms = chance.choice(BEGINNINGS) + chance.randrange(MINUTE_MS)
    active_ms = chance.randint(*ACTIVE_MS)
    times = sorted(begin_ms + chance.randrange(3_000, active_ms) for _ in range(chance.randint(2, MISHAPS_MAX)))
    return VenuePlan(
        seed,
        exchange,
        begin_ms,
        active_ms,
        chance.choice(_INSTRUMENTS[exchange]),
        types=tuple(DataType) if chance.random() < 0.2 else (*chance.sample(_OTHERS, 2), DataType.TRADE),
        is_double=chance.random() < 0.4,
        rate=chance.choice((0.4, 2.0)),
        book_ticks=chance.choice((60, 60, 60, 60, 450)),
        levels=chance.choice((20, 50)),
        tick_ms=chance.choice((100, 250, 500, 500)),
        age_ms_max=chance.choice((None, 60_000, 120_000)),
        batch=chance.choice((1, 20, 200)),
        mishaps=tuple((time_ms, chance.choice(allowed)) for time_ms in times),
    )
