#!/bin/sh
# DuckDB 2.0.1: two functions that cut a time to its day do not agree on a TIMESTAMP WITH TIME ZONE. date_trunc('day',
# t) cuts in the session's time zone, time_bucket(INTERVAL '1 day', t) in UTC; months likewise. Which of the two kinds
# of time a column of epoch milliseconds becomes depends on the function that converts it: to_timestamp(ms / 1000) gives
# one with a time zone, epoch_ms(ms) one without, and of that both functions cut in UTC. The session's time zone is the
# machine's unless it is set.
#
# It matters because a query that makes daily candles passes on a server, which runs in UTC, and gives other candles on
# a laptop in Shanghai or New York: days from 16:00 UTC. Mixing both functions joins each candle with the day before or
# after. Use epoch_ms(ms), or SET TimeZone = 'UTC'.
#
# Output seen with DuckDB 2.0.1, of 2024-05-15 17:00 UTC, all results as UTC:
#   UTC: to_timestamp: date_trunc 2024-05-15 00:00, time_bucket 2024-05-15 00:00; epoch_ms: date_trunc 2024-05-15 00:00
#   Asia/Shanghai: to_timestamp: date_trunc 2024-05-15 16:00, time_bucket 2024-05-15 00:00; epoch_ms: date_trunc 2024-05-15 00:00
#   America/New_York: to_timestamp: date_trunc 2024-05-15 04:00, time_bucket 2024-05-15 00:00; epoch_ms: date_trunc 2024-05-15 00:00
#   Asia/Shanghai, month: date_trunc 2024-04-30 16:00, time_bucket 2024-05-01 00:00
# Fails if the two functions cut otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install 'duckdb==2.0.1'
"$folder/venv/bin/python" - <<'PY'
from datetime import UTC, datetime

import duckdb

NOW = 1_715_792_400_000  # 2024-05-15 17:00 UTC
connection = duckdb.connect()
print(f"DuckDB {duckdb.__version__}")


def cut(expression):
    ((time,),) = connection.execute(f"SELECT epoch_ms({expression})").fetchall()
    return datetime.fromtimestamp(time / 1000, UTC).strftime("%Y-%m-%d %H:%M")


seen = {}
for zone in ("UTC", "Asia/Shanghai", "America/New_York"):
    connection.execute(f"SET TimeZone = '{zone}'")
    zoned, plain = f"to_timestamp({NOW} / 1000)", f"epoch_ms({NOW})"
    day = cut(f"date_trunc('day', {zoned})"), cut(f"time_bucket(INTERVAL '1 day', {zoned})")
    of_plain = cut(f"date_trunc('day', {plain})")
    print(f"{zone}: to_timestamp: date_trunc {day[0]}, time_bucket {day[1]}; epoch_ms: date_trunc {of_plain}")
    month = cut(f"date_trunc('month', {zoned})"), cut(f"time_bucket(INTERVAL '1 month', {zoned})")
    seen[zone] = (*day, of_plain, *month)
month = seen["Asia/Shanghai"][3:]
print(f"Asia/Shanghai, month: date_trunc {month[0]}, time_bucket {month[1]}")
midnight, first = "2024-05-15 00:00", "2024-05-01 00:00"
assert seen["UTC"] == (midnight, midnight, midnight, first, first), "it behaves otherwise now"
expected = ("2024-05-15 16:00", midnight, midnight, "2024-04-30 16:00", first)
assert seen["Asia/Shanghai"] == expected, "it behaves otherwise now"
assert seen["America/New_York"][:3] == ("2024-05-15 04:00", midnight, midnight), "it behaves otherwise now"
PY
