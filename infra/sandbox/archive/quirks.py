"""The faults that files of the real archive have had: what each does to rows, and which are drawn from the seed.

Sources: binance-facts section 6.3. Each is a fault of infra/sandbox/faults.py, injected by a test or, with the option
`archive_quirks`, drawn from the seed for the metrics of some days of a symbol, where a day of the archive that is known
for a quirk has that one. What they change are texts: the numbers that the sandbox holds true stay as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from infra.sandbox.archive.files import FileKey
from infra.sandbox.archive.metrics import COLUMNS, STARTS_SINCE_MS, row
from infra.sandbox.exchange import Exchange
from infra.sandbox.faults import Fault
from infra.sandbox.grid import DAY_MS, utc_ms
from infra.sandbox.noise import chance
from infra.sandbox.render import Row, decimal
from infra.sandbox.statistics import PERIOD_MS
from infra.sandbox.universe import Instrument

_LABEL: Final = 1  # the place of create_time in a row of infra/sandbox/archive/metrics.py
_NUMBERS: Final = range(3, 1 + len(COLUMNS))  # the places of the numbers
_JITTER_MS: Final = 20  # by up to which a funding's time in the archive is later than in REST
_ODDS: Final = 64  # one day in so many has a certain quirk
_DRAWN: Final = (
    Fault("metrics_blanks", rows=3),
    Fault("metrics_zeros", rows=2),
    Fault("metrics_short_day", rows=125),
    Fault("metrics_duplicates", rows=2),
    Fault("metrics_conflicts", rows=2),
    Fault("metrics_midnight"),
    Fault("metrics_bare_date"),
    Fault("metrics_disorder", rows=6),
    Fault("wrong_checksum"),
    Fault("archive_404"),
)
_DRAWN_FOR_A_TIME: Final = ((Fault("archive_404"), 6), (Fault("metrics_republished", rows=3), 20))
"""Faults that end after up to so many days: a file that comes late, and one that is replaced by a better one."""

_DATED: Final[dict[int, tuple[Fault, ...]]] = {
    **{utc_ms(2020, 9, day): (Fault("metrics_duplicates", rows=288),) for day in range(1, 31)},
    utc_ms(2022, 3, 7): (Fault("metrics_zeros", rows=144),),
    utc_ms(2022, 3, 8): (Fault("metrics_zeros", rows=144),),
    utc_ms(2024, 2, 16): (Fault("metrics_short_day", rows=125),),
    utc_ms(2024, 8, 8): (Fault("metrics_disorder", rows=24),),
    utc_ms(2026, 7, 9): (Fault("metrics_blanks", rows=12), Fault("wrong_checksum")),
}
"""By day: what many symbols had then; here every second one."""


def drawn(item: Instrument, key: FileKey, now_ms: int) -> Mapping[str, Fault]:
    """The faults at `now_ms` that the seed has drawn for a file of metrics, by kind."""
    if key.start_ms in _DATED and chance(f"{item.uid}/quirk") % 2:
        return {fault.kind: fault for fault in _DATED[key.start_ms]}
    number = chance(f"{item.uid}/quirk/{key.start_ms // DAY_MS}")
    place = number % _ODDS
    if place < len(_DRAWN):
        return {_DRAWN[place].kind: _DRAWN[place]}
    if place < len(_DRAWN) + len(_DRAWN_FOR_A_TIME):
        fault, days_max = _DRAWN_FOR_A_TIME[place - len(_DRAWN)]
        until_ms = key.published_ms + (1 + (number >> 8) % days_max) * DAY_MS
        return {fault.kind: fault} if now_ms < until_ms else {}
    return {}


def changed(exchange: Exchange, item: Instrument, key: FileKey, held: list[Row], faults: Sequence[Fault]) -> list[Row]:
    """The rows of a file with those of `faults` that change rows, in the order of `_CHANGES`."""
    by_kind = {fault.kind: fault for fault in faults}
    if "metrics_midnight" in by_kind:
        held = _with_midnight(exchange, item, key, held)
    for kind, change in _CHANGES.items():
        if kind in by_kind:
            held = change(held, by_kind[kind])
    return held


def _with_midnight(exchange: Exchange, item: Instrument, key: FileKey, held: list[Row]) -> list[Row]:
    """The rows and, with other numbers, the neighbour file's row that is labelled with the midnight between both."""
    is_before = key.start_ms < STARTS_SINCE_MS
    end_ms = key.start_ms if is_before else key.end_ms + PERIOD_MS
    if not exchange.statistics.ends_ms(item, PERIOD_MS, end_ms, end_ms):
        return held
    strange = _altered(row(exchange, item, end_ms - PERIOD_MS))
    return [strange, *held] if is_before else [*held, strange]


def _republished(held: list[Row], fault: Fault) -> list[Row]:
    return _each(held, fault, lambda one: [_altered(one)])


def _zeros(held: list[Row], fault: Fault) -> list[Row]:
    return _each(held, fault, lambda one: [_with(one, {place: _scaled(one[place], 0) for place in _NUMBERS})])


def _blanks(held: list[Row], fault: Fault) -> list[Row]:
    def blank(one: Row) -> list[Row]:
        mask = 1 + chance(f"{one[2]}/blank/{one[0]}") % ((1 << len(_NUMBERS)) - 1)
        return [_with(one, {place: "" for bit, place in enumerate(_NUMBERS) if mask >> bit & 1})]

    return _each(held, fault, blank)


def _duplicates(held: list[Row], fault: Fault) -> list[Row]:
    return _each(held, fault, lambda one: [one, one])


def _conflicts(held: list[Row], fault: Fault) -> list[Row]:
    def contradict(one: Row) -> list[Row]:
        pair = [one, _altered(one)]
        return pair if chance(f"{one[2]}/conflict/{one[0]}") % 2 else pair[::-1]

    return _each(held, fault, contradict)


def _disorder(held: list[Row], fault: Fault) -> list[Row]:
    first = _first(held, fault)
    middle = held[first : first + fault.rows]
    return [*held[:first], *middle[::-1], *held[first + fault.rows :]]


def _bare_date(held: list[Row], fault: Fault) -> list[Row]:
    del fault
    return [_with(one, {_LABEL: str(one[_LABEL]).removesuffix(" 00:00:00")}) for one in held]


def _short_day(held: list[Row], fault: Fault) -> list[Row]:
    return held[: max(0, len(held) - fault.rows)]


def _jitter(held: list[Row], fault: Fault) -> list[Row]:
    return _each(held, fault, lambda one: [[int(one[0]) + 1 + chance(f"jitter/{one[0]}") % _JITTER_MS, *one[1:]]])


_CHANGES: Final[dict[str, Callable[[list[Row], Fault], list[Row]]]] = {
    "metrics_republished": _republished,
    "metrics_zeros": _zeros,
    "metrics_blanks": _blanks,
    "metrics_conflicts": _conflicts,
    "metrics_duplicates": _duplicates,
    "metrics_disorder": _disorder,
    "metrics_bare_date": _bare_date,
    "metrics_short_day": _short_day,
    "funding_jitter": _jitter,
}


def _each(held: list[Row], fault: Fault, change: Callable[[Row], list[Row]]) -> list[Row]:
    """The rows, of which the `rows` in the middle are replaced by what `change` makes of each."""
    first = _first(held, fault)
    middle = held[first : first + fault.rows]
    return [*held[:first], *(each for one in middle for each in change(one)), *held[first + fault.rows :]]


def _first(held: list[Row], fault: Fault) -> int:
    """The place of the first of the `rows` in the middle."""
    return max(0, (len(held) - fault.rows) // 2)


def _altered(one: Row) -> Row:
    """The row with numbers that are a few per cent larger, and never the same."""
    return _with(one, {place: _scaled(one[place], 103) for place in _NUMBERS if one[place] != ""})


def _scaled(text: int | str, percent: int) -> str:
    whole, _, fraction = str(text).partition(".")
    return decimal(int(whole + fraction) * percent // 100 + (percent > 0), len(fraction))


def _with(one: Row, changes: Mapping[int, str]) -> Row:
    return [changes.get(place, field) for place, field in enumerate(one)]
