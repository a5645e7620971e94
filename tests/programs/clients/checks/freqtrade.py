"""Checks that freqtrade's `download-data` files hold the node's klines, marks and fundings; runs in its environment.

python -m tests.programs.clients.checks.freqtrade <folder of the data files> <address of the node>
"""

import sys
from pathlib import Path
from typing import Any

from tests.programs.clients.raw import Raw, floats

ID = "BTCUSDT"
HOUR_MS = 3_600_000
STEP_MS = 300_000
PAGE = 500
COLUMNS = ("open", "high", "low", "close", "volume")


def main(folder: str, address: str) -> None:
    """Compare the files with the node's own answers."""
    raw = Raw(address)
    candles = rows_of(Path(folder) / "BTC_USDT_USDT-5m-futures.feather")
    told = raw.klines(ID, "5m", startTime=int(candles[0][0]), limit=len(candles))
    assert len(candles) > 200
    assert candles == [floats(row) for row in told]
    (marked,) = Path(folder).glob("BTC_USDT_USDT-*-mark.feather")
    marks, interval = rows_of(marked), marked.stem.split("-")[1]
    told = raw.get("/fapi/v1/markPriceKlines", symbol=ID, interval=interval, startTime=int(marks[0][0]), limit=1500)
    assert [row[:5] for row in marks] == [floats(row)[:5] for row in told[: len(marks)]]
    (funded,) = Path(folder).glob("BTC_USDT_USDT-*-funding_rate.feather")
    rates = rows_of(funded, ("funding_rate",))
    events = raw.get("/fapi/v1/fundingRate", symbol=ID, limit=100)
    known = {each["fundingTime"] // HOUR_MS: float(each["fundingRate"]) for each in events}
    assert rates
    assert all(row[1] == known[int(row[0]) // HOUR_MS] for row in rates)
    interests = interests_of(Path(folder), raw)
    print(f"freqtrade: {interests} interests, {len(candles)} klines, {len(marks)} marks, {len(rates)} fundings agree")


def interests_of(folder: Path, raw: Raw) -> int:
    """Compare open interest of three months with the node's rows; returns how many there are."""
    found = rows_of(folder / "BTC_USDT_USDT-5m-open_interest.feather", ("open_interest_amount", "open_interest_value"))
    times = [int(row[0]) for row in found]
    assert times == list(range(times[0], times[-1] + 1, STEP_MS)), "no step lacks, also at the 30-day edge"
    assert len(times) > 88 * 288
    for at in range(0, len(found), PAGE):
        page = found[at : at + PAGE]
        window = {"startTime": int(page[0][0]), "endTime": int(page[-1][0])}
        told = raw.get("/futures/data/openInterestHist", symbol=ID, period="5m", limit=PAGE, **window)
        values = [[row["timestamp"], float(row["sumOpenInterest"]), float(row["sumOpenInterestValue"])] for row in told]
        assert page == values
    return len(found)


def rows_of(path: Path, columns: tuple[str, ...] = COLUMNS) -> list[list[float]]:
    """The rows of a data file: the time in ms and the columns."""
    pandas: Any = __import__("pandas")  # of freqtrade's environment
    frame = pandas.read_feather(path)
    assert {*columns} <= {*frame.columns}, f"{path.name} has {list(frame.columns)}"
    times = [int(each.timestamp() * 1000) for each in frame["date"]]
    values = zip(*(frame[name] for name in columns), strict=True)
    return [[time_ms, *(float(value) for value in row)] for time_ms, row in zip(times, values, strict=True)]


if __name__ == "__main__":
    main(*sys.argv[1:])
