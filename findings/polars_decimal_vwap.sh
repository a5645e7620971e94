#!/bin/sh
# polars 2.1.0 gives the product and the quotient of two Decimal columns the larger scale of the two, and rounds to it
# in silence. Price times quantity therefore loses the price's last digits, row by row, before anything is summed: a
# VWAP of decimals comes out wrong, here by 0.17, and a return (close / previous close - 1) of prices with two decimals
# is 0.00. DuckDB adds the scales of factors and divides in double precision; within polars pct_change() of the same
# column gives the return, as Float64. Decimal columns are taken for exactness, so that nobody rounds twice here.
#
# It matters because exports of klines and trades carry decimal columns in the exchange's own scales (prices 2,
# quantities 3), and the first things computed of them are notional, VWAP and returns. Cast to a larger scale before
# multiplying (cast(Decimal(38, 10))), or to Float64.
#
# Output seen with polars 2.1.0 and DuckDB 2.0.1, of 0.001 at 60000.10 and 0.002 at 60000.20:
#   notional: polars 60.000 and 120.000, DuckDB 60.00010 and 120.00040
#   VWAP: polars 60000.000, DuckDB 60000.1666667, polars after a cast to scale 10: 60000.1666666667
#   return from 60000.10 to 60003.10: polars 0.00, its pct_change 0.0000500, DuckDB 0.0000500
# Fails if polars computes otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install 'polars==2.1.0' 'duckdb==2.0.1'
"$folder/venv/bin/python" - <<'PY'
from decimal import Decimal

import duckdb
import polars
from polars import col

trades = polars.DataFrame(
    {"price": [Decimal("60000.10"), Decimal("60000.20")], "quantity": [Decimal("0.001"), Decimal("0.002")]},
    schema={"price": polars.Decimal(18, 2), "quantity": polars.Decimal(18, 3)},
)
rows = "(VALUES (60000.10::DECIMAL(18, 2), 0.001::DECIMAL(18, 3)), (60000.20, 0.002)) AS trades (price, quantity)"
print(f"polars {polars.__version__}, DuckDB {duckdb.__version__}")


def vwap(frame):
    return frame.select((col("price") * col("quantity")).sum() / col("quantity").sum()).item()


notional = [str(value) for value in trades.select(col("price") * col("quantity")).to_series()]
exact = [str(value) for (value,) in duckdb.sql(f"SELECT price * quantity FROM {rows} ORDER BY price").fetchall()]
print(f"notional: polars {' and '.join(notional)}, DuckDB {' and '.join(exact)}")
((mean,),) = duckdb.sql(f"SELECT sum(price * quantity) / sum(quantity) FROM {rows}").fetchall()
short, wide = vwap(trades), vwap(trades.select(polars.all().cast(polars.Decimal(38, 10))))
print(f"VWAP: polars {short}, DuckDB {mean:.7f}, polars after a cast to scale 10: {wide}")
closes = polars.DataFrame({"close": [Decimal("60000.10"), Decimal("60003.10")]}, schema={"close": polars.Decimal(18, 2)})
gain = closes.select(col("close") / col("close").shift(1) - 1).to_series()[-1]
change = closes.select(col("close").pct_change()).to_series()[-1]
((ratio,),) = duckdb.sql("SELECT 60003.10::DECIMAL(18, 2) / 60000.10::DECIMAL(18, 2) - 1").fetchall()
print(f"return from 60000.10 to 60003.10: polars {gain}, its pct_change {change:.7f}, DuckDB {ratio:.7f}")
assert notional == ["60.000", "120.000"] and exact == ["60.00010", "120.00040"], "it behaves otherwise now"
assert short == 60000 and str(wide) == "60000.1666666667" and abs(mean - 60000.1666667) < 1e-6, "it behaves otherwise now"
assert str(gain) == "0.00" and abs(change - 0.00005) < 1e-8 > abs(ratio - 0.00005), "it behaves otherwise now"
PY
