"""The symbols that exist at a time: a function of seed, number of symbols and time, plus changes by faults."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property

from infra.sandbox.grid import DAY_MS, HOUR_MS, MINUTE_MS, Grid, utc, utc_ms
from infra.sandbox.noise import chance

NEVER_MS = 4_133_404_800_000  # 2100-12-25 08:00 UTC, Binance's "no delivery" (binance-facts section 4)
_TRADE_USD = 150  # value of the mean trade, which determines its lots
_INVERSE_TRADE_USD = 3_000
_QUIET_TRADES = 5

# base asset, price precision, quantity precision, tick in units of 10^-precision, base price in ticks, trades a minute,
# empty minutes of 1024, listing
_HEADS: tuple[tuple[str, int, int, int, int, int, int, int], ...] = (
    ("BTC", 2, 3, 10, 1_000_000, 2_400, 0, utc_ms(2019, 9, 8, 17, 57)),
    ("ETH", 2, 3, 1, 350_000, 1_900, 0, utc_ms(2019, 11, 27, 7, 45)),
    ("SOL", 4, 2, 100, 18_000, 900, 0, utc_ms(2020, 9, 14, 7, 0)),
    ("ADA", 5, 0, 10, 6_500, 120, 20, utc_ms(2020, 1, 31, 8, 0)),
    ("XRP", 4, 1, 1, 22_000, 6, 330, utc_ms(2020, 1, 6, 8, 0)),
    ("DOGE", 6, 0, 10, 17_000, 500, 0, utc_ms(2020, 7, 10, 9, 0)),
    ("币安人生", 7, 0, 100, 14_000, 8, 250, utc_ms(2025, 10, 20, 11, 40)),
    ("1000PEPE", 7, 0, 1, 92_000, 700, 0, utc_ms(2023, 5, 5, 15, 30)),
    ("BTTC", 7, 0, 1, 4_600, 4, 560, utc_ms(2022, 2, 3, 7, 30)),
    ("BTCDOM", 1, 3, 1, 990_000, 30, 60, utc_ms(2021, 6, 22, 7, 0)),
)
# onboardDate in exchangeInfo of symbols whose candles begin at another time, as recorded
_STATED_MS = dict.fromkeys(("BTC", "ETH", "SOL", "ADA", "XRP", "DOGE"), utc_ms(2019, 9, 25, 8))
_NAMES = """
    BNB LTC LINK AVAX DOT TRX BCH NEAR UNI APT FIL ARB OP SUI ATOM ETC XLM HBAR ALGO VET ICP AAVE INJ TIA SEI
    FTM GRT MKR LDO RUNE SAND MANA AXS GALA CHZ EOS XTZ FLOW NEO IOTA ZEC DASH KSM CRV SNX COMP YFI SUSHI BAT
    ENJ ZIL ONT QTUM 1000SHIB 1000BONK 1000FLOKI WIF ORDI STX IMX DYDX GMX PENDLE JUP PYTH STRK ENA WLD ONDO
    TAO KAS FET RNDR AR MINA
""".split()  # noqa: SIM905  a list literal would be 77 lines
# price precision, quantity precision, tick in units of 10^-precision (the spread of 739 recorded symbols)
_PRECISIONS = (
    (7, 0, 100),
    (7, 0, 10),
    (7, 0, 1),
    (6, 1, 100),
    (5, 2, 1),
    (7, 1, 1),
    (5, 0, 1),
    (6, 0, 1),
    (4, 1, 1),
    (3, 1, 1),
    (2, 3, 1),
)


@dataclass(frozen=True, eq=False)
class Instrument:
    """One symbol and the parameters of its candles; prices in units of 10^-`price_precision`, times in ms."""

    symbol: str
    base_asset: str
    uid: str
    price_precision: int
    quantity_precision: int
    tick_units: int
    base_ticks: int
    trades_a_minute: int
    empty_of_1024: int
    onboard_ms: int
    delivery_ms: int = NEVER_MS
    announced_ms: int = 0
    gone_ms: int = NEVER_MS
    shown_ms: int = 0
    contract_type: str = "PERPETUAL"
    quote_asset: str = "USDT"
    underlying: str = "COIN"
    stated_ms: int | None = None
    """The onboardDate in exchangeInfo if it differs from the first candle's time (binance-facts section 4)."""
    pending: bool = False
    follows: str = ""
    """The `uid` whose course of prices the symbol has; "" for its own."""
    lot_usd: int = 0
    """The dollars that a lot of an inverse contract is worth; 0 if lots are coins."""

    @cached_property
    def pair(self) -> str:
        """The pair, which a quarterly contract shares with its perpetual."""
        return self.symbol.partition("_")[0]

    @cached_property
    def lots_a_trade(self) -> int:
        """The mean lots of a trade, worth about 150 dollars; of an inverse contract about 3,000."""
        if self.lot_usd:
            return max(1, _INVERSE_TRADE_USD // self.lot_usd)
        price_units = self.base_ticks * self.tick_units
        scale = int("1" + "0" * (self.price_precision + self.quantity_precision))
        return max(1, _TRADE_USD * scale // price_units)

    @property
    def quiet(self) -> bool:
        """Whether the symbol has many minutes without trades."""
        return self.empty_of_1024 >= 200

    def grid(self, interval: str) -> Grid:
        """The symbol's grid: 3d candles count from the listing day, those of BTCUSDT from day 1 (binance-facts 3)."""
        return Grid(interval, 1 if self.symbol == "BTCUSDT" else self.onboard_ms // DAY_MS)

    def visible(self, now_ms: int) -> bool:
        """Whether exchangeInfo shows the symbol: from the start of its listing day until `gone_ms`."""
        return max(self.shown_ms, self.onboard_ms // DAY_MS * DAY_MS) <= now_ms < self.gone_ms

    def status(self, now_ms: int) -> str:
        """PENDING_TRADING, TRADING or SETTLING at `now_ms`."""
        if self.pending or now_ms < self.onboard_ms:
            return "PENDING_TRADING"
        return "TRADING" if now_ms < self.delivery_ms else "SETTLING"

    @property
    def onboard_date(self) -> int:
        """The onboardDate in exchangeInfo."""
        return self.onboard_ms if self.stated_ms is None else self.stated_ms

    def delivery_date(self, now_ms: int) -> int:
        """The deliveryDate in exchangeInfo at `now_ms`: the far future until a delisting is announced."""
        return self.delivery_ms if now_ms >= self.announced_ms else NEVER_MS


class Universe:
    """All symbols of a seed. Faults change them with `list_symbol` and similar methods."""

    def __init__(self, seed: int, symbols: int) -> None:
        assert symbols >= 1, "an exchange without symbols answers nothing"
        self.seed = seed
        self._fixed = {item.symbol: item for item in (*self._perpetuals(symbols), *self._strays())}
        self._calendar: dict[str, Instrument] = {}
        self._former: dict[str, list[Instrument]] = {}  # by symbol: its former coins, oldest first

    def at(self, now_ms: int) -> list[Instrument]:
        """The symbols that exchangeInfo shows at `now_ms`, in its order."""
        owners = [self._owner(item, now_ms) for item in self._fixed.values()]
        listed = [item for item in owners if item.visible(now_ms)]
        today = now_ms // DAY_MS
        recent = [self._daily(day) for day in range(today, today - 6, -1)]
        return listed + [self._quarterly(now_ms)] + [item for item in recent if item.visible(now_ms)]

    def find(self, symbol: str, at_ms: int) -> Instrument | None:
        """The instrument of `symbol` at `at_ms`; None if exchangeInfo does not show it then."""
        item = self._fixed.get(symbol)
        item = self._dated(symbol, at_ms) if item is None else self._owner(item, at_ms)
        return item if item is not None and item.symbol == symbol and item.visible(at_ms) else None

    def find_ever(self, symbol: str, from_ms: int, until_ms: int) -> Instrument | None:
        """The instrument of `symbol` at some time in [from_ms, until_ms); the archive keeps delisted symbols."""
        day_ms = from_ms
        while day_ms < until_ms:
            found = self.find(symbol, day_ms) or self.find(symbol, min(day_ms + DAY_MS, until_ms) - 1)
            if found is not None:
                return found
            day_ms += DAY_MS
        return None

    def list_symbol(self, symbol: str, now_ms: int) -> Instrument:
        """List a new perpetual that trades from the minute of `now_ms` on. Raises ValueError."""
        if self.find(symbol, now_ms) is not None:
            raise ValueError(f"{symbol} exists already")
        base = symbol.removesuffix("USDT")
        if not base or symbol != symbol.upper():
            raise ValueError("a symbol is in upper case")
        item = self._perpetual(base, now_ms // MINUTE_MS * MINUTE_MS, symbol=symbol)
        self._fixed[symbol] = item
        return item

    def relist_symbol(self, symbol: str, now_ms: int, in_ms: int) -> Instrument:
        """Unlist the symbol at the next minute, and list it as another coin `in_ms` later. Raises ValueError."""
        item = self.find(symbol, now_ms)
        if item is None or item.uid in self._calendar:
            raise ValueError(f"{symbol} is not listed, or has another coin every year as it is")
        former = self._former.setdefault(symbol, [])
        gone_ms = now_ms // MINUTE_MS * MINUTE_MS + MINUTE_MS
        onboard_ms = gone_ms + in_ms // MINUTE_MS * MINUTE_MS
        fresh = self._perpetual(item.base_asset, onboard_ms, symbol=symbol, uid=f"{item.uid}:{len(former) + 1}")
        former.append(replace(item, gone_ms=gone_ms))
        self._fixed[symbol] = replace(
            fresh,
            shown_ms=onboard_ms,
            trades_a_minute=item.trades_a_minute,
            empty_of_1024=item.empty_of_1024,
            quote_asset=item.quote_asset,
        )
        return self._fixed[symbol]

    def former(self, symbol: str) -> Instrument | None:
        """The previous coin of a symbol; None if there was none."""
        return self._former[symbol][-1] if symbol in self._former else None

    def _owner(self, item: Instrument, at_ms: int) -> Instrument:
        """The instrument that owns the symbol of `item` at `at_ms`."""
        return next((each for each in self._former.get(item.symbol, ()) if at_ms < each.gone_ms), item)

    def delist_symbol(self, symbol: str, now_ms: int, delivery_ms: int) -> Instrument:
        """Announce at `now_ms` the delivery of `symbol` at `delivery_ms`, rounded up to a minute. Raises ValueError."""
        item = self.find(symbol, now_ms)
        if item is None or item.status(now_ms) != "TRADING":
            raise ValueError(f"{symbol} does not trade")
        delivery_ms = -(-delivery_ms // MINUTE_MS) * MINUTE_MS
        return self._replaced(item, replace(item, delivery_ms=delivery_ms, announced_ms=now_ms))

    def state_onboard(self, symbol: str, stated_ms: int, now_ms: int) -> Instrument:
        """Set another onboardDate of `symbol` in exchangeInfo; its candles do not change. Raises ValueError."""
        item = self.find(symbol, now_ms)
        if item is None:
            raise ValueError(f"{symbol} does not exist")
        return self._replaced(item, replace(item, stated_ms=stated_ms))

    def _replaced(self, item: Instrument, changed: Instrument) -> Instrument:
        if item.uid in self._calendar:
            self._calendar[item.uid] = changed
        else:
            self._fixed[item.symbol] = changed
        return changed

    def _perpetuals(self, symbols: int) -> Iterator[Instrument]:
        for base, price, quantity, tick, ticks, trades, empty, onboard_ms in _HEADS[:symbols]:
            uid = f"{self.seed}:{base}USDT"
            item = Instrument(f"{base}USDT", base, uid, price, quantity, tick, ticks, trades, empty, onboard_ms)
            yield replace(item, stated_ms=_STATED_MS.get(base))
        for number in range(symbols - len(_HEADS)):
            base = _NAMES[number] if number < len(_NAMES) else _coin_name(number)
            yield self._perpetual(base, _listing_ms(f"{self.seed}:{base}"))

    def _perpetual(self, base: str, onboard_ms: int, *, symbol: str = "", uid: str = "") -> Instrument:
        symbol = symbol or f"{base}USDT"
        uid = uid or f"{self.seed}:{symbol}"
        bits = chance(f"{uid}/precision")
        price, quantity, tick = _PRECISIONS[bits % len(_PRECISIONS)]
        ticks = 2_000 + (bits >> 8) % 60_000
        quiet = (bits >> 32) % 10 < 3
        trades = _QUIET_TRADES if quiet else 30 + (bits >> 40) % 900
        empty = 205 + (bits >> 52) % 410 if quiet else 0
        return Instrument(symbol, base, uid, price, quantity, tick, ticks, trades, empty, onboard_ms)

    def _strays(self) -> Iterator[Instrument]:
        """Symbols that a client of USDT perpetuals must filter out."""
        seed = self.seed
        gold = Instrument("XAUUSDT", "XAU", f"{seed}:XAUUSDT", 2, 3, 1, 420_000, 90, 40, utc_ms(2025, 12, 11, 8, 5))
        yield replace(gold, contract_type="TRADIFI_PERPETUAL", underlying="COMMODITY")
        usdc = Instrument("BTCUSDC", "BTC", f"{seed}:BTCUSDC", 1, 3, 1, 1_000_000, 300, 0, utc_ms(2024, 1, 3, 12, 30))
        yield replace(usdc, quote_asset="USDC")
        settled = Instrument("OMGUSDT", "OMG", f"{seed}:OMGUSDT", 4, 1, 1, 4_000, 12, 120, utc_ms(2019, 9, 25, 8))
        yield replace(settled, delivery_ms=utc_ms(2025, 1, 31, 9), announced_ms=utc_ms(2025, 1, 24, 3))
        pending = Instrument("BTCSTUSDT", "BTCST", f"{seed}:BTCSTUSDT", 3, 1, 1, 9_000, 12, 0, utc_ms(2021, 3, 3, 7))
        yield replace(pending, pending=True)

    def _dated(self, symbol: str, at_ms: int) -> Instrument | None:
        if symbol.startswith("BTCUSDT_"):
            return self._quarterly(at_ms)
        today = at_ms // DAY_MS
        return next((item for day in range(today, today - 6, -1) if (item := self._daily(day)).symbol == symbol), None)

    def _daily(self, day: int) -> Instrument:
        """The symbol listed on `day` at 00:30 UTC and delivered two days later at 09:00 (announced at 00:00)."""
        when = utc(day * DAY_MS)
        symbol = f"NEW{when:%m%d}USDT"
        uid = f"{self.seed}:{symbol}:{when.year}"
        if uid not in self._calendar:
            fresh = self._perpetual(symbol.removesuffix("USDT"), day * DAY_MS + 30 * MINUTE_MS, uid=uid)
            ends_ms = (day + 2) * DAY_MS
            self._calendar[uid] = replace(
                fresh,
                trades_a_minute=9,
                empty_of_1024=230,
                delivery_ms=ends_ms + 9 * HOUR_MS,
                announced_ms=ends_ms,
                gone_ms=(day + 6) * DAY_MS,
            )
        return self._calendar[uid]

    def _quarterly(self, now_ms: int) -> Instrument:
        delivery_ms = quarter_end_ms(now_ms)
        symbol = f"BTCUSDT_{utc(delivery_ms):%y%m%d}"
        uid = f"{self.seed}:{symbol}"
        if uid not in self._calendar:
            fresh = Instrument(symbol, "BTC", uid, 1, 3, 1, 1_010_000, 60, 30, delivery_ms - 182 * DAY_MS)
            self._calendar[uid] = replace(
                fresh, contract_type="CURRENT_QUARTER", delivery_ms=delivery_ms, gone_ms=delivery_ms
            )
        return self._calendar[uid]


def _coin_name(number: int) -> str:
    """A pronounceable asset name, unique for each number."""
    letters = ""
    for alphabet in ("KLMNPRSTVZ", "AEIOU", "BDGHJKQVXZ", "AEIOUY"):
        number, place = divmod(number, len(alphabet))
        letters = f"{letters}{alphabet[place]}"
    return letters + (str(number) if number else "")


def _listing_ms(key: str) -> int:
    """A listing time between 2020-02 and 2025-11, on a quarter of an hour."""
    bits = chance(f"{key}/listing")
    day_ms = utc_ms(2020, 2) + bits % 2_100 * DAY_MS
    return day_ms + (7 + (bits >> 16) % 9) * HOUR_MS + (bits >> 24) % 4 * 15 * MINUTE_MS


def quarter_end_ms(now_ms: int) -> int:
    """The first last-Friday-of-a-quarter, 08:00 UTC, after `now_ms`."""
    when = utc(now_ms)
    month = (when.month - 1) // 3 * 3 + 4
    for extra in (0, 3):
        year, month_index = divmod(when.year * 12 + month - 1 + extra, 12)
        last_day = utc(utc_ms(year, month_index + 1)) - timedelta(days=1)
        friday = last_day - timedelta(days=(last_day.weekday() - 4) % 7)
        delivery_ms = utc_ms(friday.year, friday.month, friday.day, 8)
        if delivery_ms > now_ms:
            return delivery_ms
    raise AssertionError("a quarter ends within six months")
