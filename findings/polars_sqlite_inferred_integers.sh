#!/bin/sh
# polars 2.1.0, read_database(query, connection) over the standard sqlite3 module: each column's type is that of its
# first 100 rows (infer_schema_length), and a later value of another number type is cut to it without an error. SQLite
# keeps a number without a fraction of a DECIMAL (or NUMERIC) column as an integer: "60000.00" is stored as 60000. So a
# column of prices whose first 100 rows happen to be round is read as Int64, and every later price loses its fraction:
# 60000.75 becomes 60000, and a traded volume of 0.999 becomes 0. Where the value is text, 'x' raises an error, but
# '60000.75' is cut as well.
#
# It matters because klines are often so: a quiet symbol has 100 minutes without a trade (volume 0), a symbol of coarse
# tick has round prices for hours, and many recorders declare their columns DECIMAL. polars documents for its frames
# (strict=True) that a value which is not of the inferred type raises an error. infer_schema_length=None reads the
# column as Float64; a column declared TEXT keeps the digits.
#
# Output seen with polars 2.1.0:
#   stored by SQLite: (60000, 'integer'), then (60000.75, 'real')
#   read by default: Int64 60000, volume Int64 0
#   read with infer_schema_length=None: Float64 60000.75, volume Float64 0.999
#   text after 100 integers: '60000.75' is read as 60000, 'x' raises ComputeError
# Fails if polars reads otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install 'polars==2.1.0'
"$folder/venv/bin/python" - <<'PY'
import sqlite3

import polars

MINUTE = 60_000
connection = sqlite3.connect(":memory:")
connection.execute("CREATE TABLE kline (open_time INTEGER PRIMARY KEY, close DECIMAL(20, 8), volume DECIMAL(20, 8))")
klines = [(minute * MINUTE, "60000.00", "0.000") for minute in range(100)] + [(100 * MINUTE, "60000.75", "0.999")]
connection.executemany("INSERT INTO kline VALUES (?, ?, ?)", klines)
stored = connection.execute("SELECT close, typeof(close) FROM kline ORDER BY open_time").fetchall()
query = "SELECT close, volume FROM kline ORDER BY open_time"
short = polars.read_database(query, connection)
whole = polars.read_database(query, connection, infer_schema_length=None)
print(f"polars {polars.__version__}")
print(f"stored by SQLite: {stored[0]}, then {stored[-1]}")


def last(frame):
    return f"{frame.schema['close']} {frame['close'][-1]}, volume {frame.schema['volume']} {frame['volume'][-1]}"


print(f"read by default: {last(short)}")
print(f"read with infer_schema_length=None: {last(whole)}")
assert stored[0] == (60000, "integer") and stored[-1] == (60000.75, "real")
assert short.row(-1) == (60000, 0) and short["close"].dtype == polars.Int64, "it behaves otherwise now"
assert whole.row(-1) == (60000.75, 0.999), "it behaves otherwise now"

connection.execute("CREATE TABLE number (value)")
connection.executemany("INSERT INTO number VALUES (?)", [(60000,)] * 100 + [("60000.75",)])
text = polars.read_database("SELECT value FROM number", connection)
connection.execute("UPDATE number SET value = 'x' WHERE value = '60000.75'")
try:
    polars.read_database("SELECT value FROM number", connection)
except polars.exceptions.ComputeError as error:
    refused = type(error).__name__
print(f"text after 100 integers: '60000.75' is read as {text['value'][-1]}, 'x' raises {refused}")
assert text["value"][-1] == 60000, "it behaves otherwise now"
PY
