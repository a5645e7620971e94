#!/bin/sh
# polars 2.1.0: "7d" and "1w" are not the same bins. group_by_dynamic and dt.truncate count days from 1970-01-01, a
# Thursday, so that "7d" begins on Thursday and "1w" on Monday, each labelled by a plain date. DuckDB 2.0.1 takes 7 days
# and a week for the same and begins both on Monday. Two weeks agree with neither: polars' "2w" of 2024-05-15 begins on
# May 13, DuckDB's on May 6, since polars counts pairs of weeks from another Monday.
#
# It matters because exchanges' weekly klines open on Monday, and intervals that a program computes are counts of days:
# a roll-up of 1d to "7d" passes for 1w until it is joined with the exchange's rows by open time and matches none. Roll
# up by "1w".
#
# Output seen with polars 2.1.0 and DuckDB 2.0.1, of Wednesday 2024-05-15:
#   one: polars 7d Thu 2024-05-09, 1w Mon 2024-05-13; DuckDB 7 days Mon 2024-05-13, 1 week Mon 2024-05-13
#   two: polars 14d Thu 2024-05-09, 2w Mon 2024-05-13; DuckDB 14 days Mon 2024-05-06, 2 weeks Mon 2024-05-06
# Fails if one of them begins elsewhere.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install 'polars==2.1.0' 'duckdb==2.0.1'
"$folder/venv/bin/python" - <<'PY'
from datetime import datetime

import duckdb
import polars

NOON = datetime(2024, 5, 15, 12)
kline = polars.DataFrame({"open_time": [NOON], "volume": [1.0]})
print(f"polars {polars.__version__}, DuckDB {duckdb.__version__}")


def by_polars(every):
    (bin_,) = kline.group_by_dynamic("open_time", every=every).agg(polars.col("volume").sum())["open_time"]
    assert bin_ == kline["open_time"].dt.truncate(every)[0]
    return f"{bin_:%a %Y-%m-%d}"


def by_duckdb(every):
    ((bin_,),) = duckdb.execute(f"SELECT time_bucket(INTERVAL '{every}', ?)", [NOON]).fetchall()
    return f"{bin_:%a %Y-%m-%d}"


seen = []
for name, days, weeks in (("one", ("7d", "7 days"), ("1w", "1 week")), ("two", ("14d", "14 days"), ("2w", "2 weeks"))):
    bins = by_polars(days[0]), by_polars(weeks[0]), by_duckdb(days[1]), by_duckdb(weeks[1])
    print(f"{name}: polars {days[0]} {bins[0]}, {weeks[0]} {bins[1]}; DuckDB {days[1]} {bins[2]}, {weeks[1]} {bins[3]}")
    seen.append(bins)
thursday, monday, before = "Thu 2024-05-09", "Mon 2024-05-13", "Mon 2024-05-06"
assert seen[0] == (thursday, monday, monday, monday), "it behaves otherwise now"
assert seen[1] == (thursday, monday, before, before), "it behaves otherwise now"
PY
