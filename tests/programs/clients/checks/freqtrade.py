"""Checks that freqtrade's `download-data` files hold the node's klines, marks and fundings; runs in its environment.

python -m tests.programs.clients.checks.freqtrade <folder of the data files> <address of the node>
"""

import sys
from pathlib import Path
from typing import Any

from tests.programs.clients.raw import Raw, floats

ID = "BTCUSDT"
HOUR_MS = 3_600_000
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
    print(f"freqtrade: {len(candles)} klines, {len(marks)} marks and {len(rates)} fundings agree")


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
