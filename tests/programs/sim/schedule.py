"""The plan of a seed: the simulated world, and every fault with its time, drawn from the seed alone."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final

from app.domain.interval import M1
from app.domain.series import Series
from app.kinds.metrics import METRICS
from app.kinds.price_klines import PRICES
from infra.sandbox.faults import ARCHIVE_KINDS, KINDS, MARKET_KINDS, QUIRK_KINDS, REST_KINDS, SHAPES
from infra.sandbox.grid import DAY_MS, HOUR_MS, MINUTE_MS, utc_ms
from tests.programs.sim import holes, metrics
from tests.programs.sim.holes import Hole

SURFACES: Final = ("rest", "ws", "archive")
BASE_MS: Final = utc_ms(2026, 11, 21)
INTERVAL_SETS: Final = (
    ("1m", "5m", "1h"),
    ("1m", "3m", "15m", "4h"),
    ("1m",),
    ("5m", "1d"),
    ("1m", "2h", "1d"),
    ("1m", "30m", "6h", "3d"),
    ("1m", "5m", "1w"),
)
LYING_S_MAX: Final = 900.0
"""How long (s) REST may leave rows out.

After half an hour the node accepts that a row does not exist (app/filling/fill.py): it would believe a longer lie.
"""

AMNESIA_S_MAX: Final = 100.0
"""How long (s) REST may have lost its history, once a seed.

After two minutes, if neither held rows nor the archive disagree, the node accepts that there was no history
(app/filling/absence.py).
"""

PRICES_SHARE: Final = 0.3  # of the seeds: those in which price klines are held
HOLED_SHARE: Final = 0.3  # of the seeds: those in which the exchange has holes; proving one absent takes half an hour


@dataclass(frozen=True)
class Step:
    """One event of the plan, `at_s` seconds after the start: it calls `do_<what>` of tests/programs/sim/mishaps.py."""

    at_s: float
    what: str
    args: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The name under which the summary counts this step."""
        return f"{self.args['kind']}" if self.what == "exchange" else self.what

    def __str__(self) -> str:
        return f"{self.at_s:8.1f} s  {self.what} " + " ".join(f"{name}={value}" for name, value in self.args.items())


@dataclass(frozen=True)
class Coin:
    """A symbol of the simulated exchange."""

    base: str
    listed_ms: int
    trades_a_minute: int
    empty_of_1024: int
    stated_ms: int | None = None
    """The onboardDate that the exchange states, when it is not `listed_ms`."""


@dataclass(frozen=True)
class Plan:
    """Everything that a seed determines."""

    seed: int
    start_ms: int
    chaos_s: float
    coins: tuple[Coin, ...]
    settings: dict[str, Any]
    steps: tuple[Step, ...]
    weight_limit: int = 2_400
    skew_ms: int = 0
    drift_ppm: int = 0
    followers: int = 0
    exchange_socket_life_s: float = 86_400.0
    node_socket_life_s: float | None = None
    queue_rows_max: int | None = None
    split_share: float = 0.1
    ask_every_s: float = 8.0
    holes: tuple[Hole, ...] = ()
    data_granted: int = 1_000
    """The requests of /futures/data that the exchange grants in five minutes."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the series of metrics that the node holds."""
        return tuple(f"{symbol}@{name}" for symbol in self.settings.get("metrics", ()) for name in METRICS)

    @property
    def series(self) -> tuple[str, ...]:
        """The names of the series of klines that the node holds: the coins' symbols and those of the price series."""
        prices = [PRICES[word] for word in self.settings.get("price_klines", ())]
        named = [
            Series(each, each.whose(symbol), M1).name
            for symbol in self.settings.get("price_klines_symbols", ())
            for each in prices
        ]
        return *self.settings["symbols"], *named

    def __str__(self) -> str:
        world = {name: value for name, value in vars(self).items() if name not in ("steps", "coins", "holes")}
        lines = [f"{name} = {value}" for name, value in world.items()]
        return "\n".join([*lines, *map(str, self.coins), *map(str, self.holes), *map(str, self.steps)])


SEAL_AFTER_DAYS: Final = 0.002
"""Three minutes: whatever forms a block is sealed, and corrections meet blocks."""


def plan(seed: int) -> Plan:
    """Draw the plan of a seed."""
    chance = Random(f"plan:{seed}")
    mood = chance.choice(("minutes", "minutes", "minutes", "downtime", "cold", "storm", "kills", "disk"))
    chaos_s = {"downtime": 600.0, "cold": 900.0}.get(mood, 1_000.0) * chance.uniform(0.8, 1.6)
    coins = _coins(chance, BASE_MS)
    settings = {
        "intervals": chance.choice(INTERVAL_SETS),
        "backfill_days": chance.choice((1, 1, 1, 2) if mood != "cold" else (2, 3, 4)),
        "symbols": tuple(f"{coin.base}USDT" for coin in coins),
        "auto_sync_symbols": chance.random() < 0.4,
        "symbol_sync_interval_sec": chance.choice((30, 60, 300)),
        "fetch_concurrency": chance.choice((1, 2, 4)),
        "read_through": chance.random() < 0.9,
        "cache_ttl_sec_klines": chance.choice((0, 10, 10, 60)),
        "seal_after_days": SEAL_AFTER_DAYS,
    }
    weight_limit = chance.choice((2_400, 2_400, 600, 120)) if mood != "cold" else chance.choice((2_400, 300))
    drawn = Plan(
        seed=seed,
        start_ms=BASE_MS + _start(chance),
        chaos_s=chaos_s,
        coins=coins,
        settings=settings | {"weight_per_minute": weight_limit},
        steps=tuple(sorted(_steps(chance, mood, chaos_s, coins), key=lambda step: step.at_s)),
        weight_limit=weight_limit,
        skew_ms=chance.choice((0, 0, 0, 300, -2_000, 90_000, -90_000, 7 * MINUTE_MS, -7 * MINUTE_MS)),
        drift_ppm=chance.choice((0, 0, 200, -200)),
        followers=int(chance.random() < 0.25),
        exchange_socket_life_s=chance.choice((86_400.0, 86_400.0, 420.0)),
        node_socket_life_s=chance.choice((None, None, 300.0)),
        queue_rows_max=chance.choice((None, None, 8)),
        split_share=chance.choice((0.02, 0.02, 0.3)),
        ask_every_s=chance.choice((4.0, 8.0, 15.0)),
    )
    return _with_metrics(_with_holes(drawn, Random(f"holes:{seed}")), Random(f"metrics:{seed}"))


def _with_metrics(drawn: Plan, chance: Random) -> Plan:
    """Return the plan with metrics in some seeds, and more faults of REST that hit them alone."""
    found = metrics.draw(chance, drawn.settings["symbols"])
    if found is None:
        return drawn
    settings, granted = found
    steps = list(drawn.steps)
    for _ in range(chance.choice((2, 4, 8))):
        kind, special = metrics.draw_fault(chance)
        at_s = round(chance.choice((0.0, 1.0)) * chance.uniform(0, drawn.chaos_s), 2)
        wish = _exchange_fault(chance, kind, drawn.coins)
        if "count" in special:
            wish = {name: value for name, value in wish.items() if name not in ("duration_s", "symbol")}
        wish |= special
        steps.append(Step(at_s, "exchange", wish))
    steps.sort(key=lambda step: step.at_s)
    return replace(drawn, settings=drawn.settings | settings, steps=tuple(steps), data_granted=granted)


def _with_holes(drawn: Plan, chance: Random) -> Plan:
    """Return the plan with holes at the exchange added in some seeds, and with price klines in some."""
    begins_ms = {f"{coin.base}USDT": coin.listed_ms for coin in drawn.coins}
    settings = dict(drawn.settings)
    if chance.random() < PRICES_SHARE:
        symbol, kind = chance.choice(list(begins_ms)), chance.choice(list(PRICES.values()))
        settings |= {"price_klines": (kind.name,), "price_klines_symbols": (symbol,)}
        begins_ms[Series(kind, kind.whose(symbol), M1).name] = begins_ms[symbol]
    if chance.random() >= HOLED_SHARE:
        return replace(drawn, settings=settings)
    return replace(
        drawn, settings=settings, holes=holes.draw(chance, begins_ms, drawn.start_ms, settings["backfill_days"])
    )


def _start(chance: Random) -> int:
    """Draw the start, often shortly before a boundary: midnight, the archive's publication, a listing."""
    turn_ms = chance.choice((0, 0, 30 * MINUTE_MS, 8 * HOUR_MS + 30 * MINUTE_MS, 4 * HOUR_MS, 12 * HOUR_MS))
    before_ms = int(chance.uniform(0, 10) * MINUTE_MS)
    days = chance.choice((0, 0, 2, 10))  # Saturday, Monday, 1 December
    return int(days * DAY_MS + turn_ms - before_ms)


def _coins(chance: Random, base_ms: int) -> tuple[Coin, ...]:
    coins = []
    for number in range(chance.choice((1, 2, 2, 3))):
        age_ms = chance.choice((400 * DAY_MS, 60 * DAY_MS, 3 * DAY_MS, 30 * HOUR_MS, 5 * HOUR_MS))
        listed_ms = (base_ms - age_ms) // MINUTE_MS * MINUTE_MS + chance.randrange(60) * MINUTE_MS
        quiet = chance.random() < 0.5
        coins.append(
            Coin(
                ("KAPPA", "LAMBDA", "SIGMA")[number],
                listed_ms,
                chance.choice((3, 5, 8)) if quiet else chance.choice((10, 20, 40)),
                chance.choice((205, 400, 600)) if quiet else 0,
                chance.choice((None, None, listed_ms - 60 * DAY_MS, min(listed_ms + 17 * DAY_MS, base_ms - DAY_MS))),
            )
        )
    return tuple(coins)


# --- faults ------------------------------------------------------------------------------------------------------

Draw = Callable[[Random], dict[str, Any]]

_DETAILS: Final[dict[str, Draw]] = {
    "http_5xx": lambda c: {"status": c.choice((500, 502, 503, 504))},
    "http_429": lambda c: {"retry_after_s": c.choice((0, 1, 5, 30, 90))},
    "http_418": lambda c: {"ban_s": c.choice((30, 120, 300, 900)), "retry_after": c.random() < 0.7, "count": 1},
    "slow": lambda c: {"delay_s": round(c.uniform(0.2, 25.0), 1)},
    "malformed": lambda c: {"shape": c.choice(sorted(SHAPES))},
    "missing_rows": lambda c: {"rows": c.choice((1, 2, 30, 400)), "duration_s": c.uniform(10, 200)},
    "lost_history": lambda c: {
        "to_ms": BASE_MS - c.choice((2, 7, 30, 80)) * HOUR_MS + c.randrange(60) * MINUTE_MS,
        "duration_s": c.uniform(5, AMNESIA_S_MAX),
    },
    "onboard_date": lambda c: {"from_ms": BASE_MS - c.choice((6, 50, 24 * 40, 24 * 700)) * HOUR_MS},
    "handshake_hang": lambda c: {"duration_s": c.uniform(5, 100)},
    "wrong_route": lambda c: {"count": c.choice((1, 2))},
    "half_open": lambda c: {"count": 1},
    "slow_socket": lambda c: {"count": 1, "delay_s": c.choice((2.0, 10.0, 60.0))},
    "server_shutdown": lambda c: {"count": 1, "delay_s": c.choice((0.0, 1.0, 20.0))},
    "contradict": lambda c: {"false_final": c.choice(("first", "second")), "count": c.choice((1, 3))},
    "late_close": lambda c: {"delay_s": c.choice((1.0, 5.0, 20.0, 70.0))},
    "refuse": lambda c: {"status": c.choice((403, 503, 0))},
    "archive_5xx": lambda c: {"status": c.choice((500, 503))},
    "archive_slow": lambda c: {"delay_s": round(c.uniform(1.0, 25.0), 1)},
    "archive_missing_rows": lambda c: {"rows": c.choice((1, 30, 700))},
    "list_symbol": lambda c: {"symbol": f"FRESH{c.randrange(100)}USDT"},
    "relist_symbol": lambda c: {"in_s": c.choice((0, 0, 60, 600))},
    "delist_symbol": lambda c: {"in_s": c.choice((60, 300, 3_600))},
}
"""Draws the parameters of the fault kinds that need more than a start and a duration."""


def _details(chance: Random, kind: str) -> dict[str, Any]:
    draw = _DETAILS.get(kind)
    return draw(chance) if draw is not None else {}


def _exchange_fault(chance: Random, kind: str, coins: tuple[Coin, ...]) -> dict[str, Any]:
    wish: dict[str, Any] = {"kind": kind}
    if kind in MARKET_KINDS:
        return wish | {"symbol": f"{coins[0].base}USDT"} | _details(chance, kind)
    if chance.random() < 0.5:
        wish["count"] = chance.choice((1, 2, 5, 20, 100))
    else:
        wish["duration_s"] = round(chance.choice((10, 60, 180, 400)) * chance.uniform(0.5, 1.5), 1)
    if chance.random() < 0.4:
        wish["probability"] = round(chance.uniform(0.1, 0.9), 2)
        wish["seed"] = chance.randrange(1_000)
    if chance.random() < 0.3 and kind not in ("http_418",):
        wish["symbol"] = f"{chance.choice(coins).base}USDT"
    return wish | _details(chance, kind)


def network_fault(chance: Random, surface: str) -> tuple[str, dict[str, Any]]:
    """Draw what happens to the connections with a surface."""
    duration_s = round(chance.choice((2.0, 20.0, 80.0, 200.0)) * chance.uniform(0.5, 1.5), 1)
    what = chance.choice(("net_cut", "net_vanish", "net_refuse", "net_block", "net_slow"))
    if what == "net_cut":
        return what, {"surface": surface, "politely": chance.random() < 0.5}
    if what == "net_vanish":
        return what, {"surface": surface, "direction": chance.choice(("in", "out", "both"))}
    if what == "net_block":
        return what, {"surface": surface, "duration_s": duration_s, "only_new": chance.random() < 0.3}
    if what == "net_slow":
        rate = chance.choice((300.0, 3_000.0, 30_000.0))
        delay_s = round(chance.uniform(0.05, 3.0), 2)
        return what, {"surface": surface, "duration_s": duration_s, "delay_s": delay_s, "bytes_per_s": rate}
    return what, {"surface": surface, "duration_s": duration_s}


def _network(chance: Random) -> tuple[str, dict[str, Any]]:
    return network_fault(chance, chance.choices(SURFACES, (3, 4, 1))[0])


def _disk(chance: Random) -> tuple[str, dict[str, Any]]:
    duration_s = round(chance.choice((1.0, 8.0, 40.0, 150.0)) * chance.uniform(0.5, 1.5), 1)
    what = chance.choice(("disk_full", "disk_read_only", "disk_locked", "disk_slow", "disk_low"))
    if what == "disk_slow":
        return what, {"duration_s": duration_s, "work_s": chance.choice((0.1, 1.0, 6.0))}
    return what, {"duration_s": duration_s}


def _process(chance: Random, mood: str) -> tuple[str, dict[str, Any]]:
    long_s = mood == "downtime"
    down_s = round(chance.uniform(1_800, 9_000) if long_s else chance.choice((0.5, 5, 90)) * chance.random(), 1)
    what = chance.choice(("kill", "kill", "kill", "stop", "freeze"))
    who = chance.randrange(2)
    if what == "kill":
        steps = chance.choice((1, 20, 200, 2_000))
        return what, {
            "who": who, "after_steps": chance.randint(1, steps), "down_s": down_s, "silently": chance.random() < 0.3,
        }  # fmt: skip
    if what == "stop":
        return what, {"who": who, "down_s": down_s}
    return what, {"who": who, "duration_s": round(chance.choice((0.5, 4.0, 30.0, 130.0)) * chance.uniform(0.5, 1.5), 1)}


def _machine(chance: Random) -> tuple[str, dict[str, Any]]:
    if chance.random() < 0.5:
        ms = chance.choice((400, 3_000, 61_000, 5 * MINUTE_MS, 3 * HOUR_MS)) * chance.choice((1, -1))
        return "clock_jump", {"ms": ms}
    rate = chance.choice((1, 5, 20, 60))
    return "neighbour", {"weight_per_s": rate, "duration_s": round(chance.uniform(20, 300), 1)}


def _steps(chance: Random, mood: str, chaos_s: float, coins: tuple[Coin, ...]) -> list[Step]:
    """Draw the faults: every family has a weight in every seed, and the mood raises some of them."""
    shares = {
        "exchange": 10.0,
        "network": 5.0,
        "disk": {"disk": 8.0}.get(mood, 2.0),
        "process": {"kills": 8.0, "downtime": 2.0}.get(mood, 2.0),
        "machine": 1.5,
    }
    number = {"storm": 40, "downtime": 8}.get(mood, chance.choice((6, 12, 24)))
    steps = []
    kinds = sorted(KINDS - {"hole"} - QUIRK_KINDS)  # holes are drawn separately; the node reads no files of them
    if mood != "cold":
        kinds = [kind for kind in kinds if kind not in ARCHIVE_KINDS or chance.random() < 0.3]
    lying_s = 0.0
    for _ in range(number):
        at_s = round(chance.uniform(0, chaos_s), 2)
        family = chance.choices(list(shares), list(shares.values()))[0]
        if family == "exchange":
            kind = chance.choice([*kinds, *(each for each in kinds if each in REST_KINDS)])
            wish = _exchange_fault(chance, kind, coins)
            if kind == "lost_history":  # consistently: it applies to every request while it lasts
                wish = {name: value for name, value in wish.items() if name not in ("count", "probability", "seed")}
                kinds = [each for each in kinds if each not in ("lost_history", "archive_404")]
            if kind == "missing_rows":
                lying_s += 1
                at_s = at_s % LYING_S_MAX if lying_s else at_s
            steps.append(Step(at_s, "exchange", wish))
            continue
        draw = {"network": _network, "disk": _disk, "machine": _machine}.get(family)
        what, args = draw(chance) if draw is not None else _process(chance, mood)
        steps.append(Step(at_s, what, args))
    if any(step.kind == "lost_history" for step in steps):  # otherwise both sources of proof would be wrong at once
        steps = [step for step in steps if step.kind != "archive_404"]
    return steps
