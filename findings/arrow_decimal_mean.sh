#!/bin/sh
# pyarrow 26.0.1: the mean of a decimal column has the column's own scale. The mean of 0.1 and 0.2 is 0.2, by
# compute.mean and by Table.group_by alike, while quantile and variance of the same column are doubles (median 0.15).
# pandas 3.1.1 hands columns of that type (ArrowDtype of decimal128) to it or does the same: mean(), groupby().mean()
# and resample().mean() give 0.2, median() 0.15. DuckDB 2.0.1 is the other way round: avg is a double, 0.15, and median
# a DECIMAL cut to 0.1.
#
# It matters because exact exports of klines and funding rates are decimals of the exchange's scale: the mean price of
# an hour is rounded to the tick, the mean of a funding rate to 8 digits, and a mean of means, or a sum of differences
# from it, drifts by half a unit a row. Cast to a larger scale, or to float64, before averaging.
#
# Output seen:
#   pyarrow 26.0.1: mean 0.2, group_by mean 0.2, median 0.15
#   pandas 3.1.1: mean 0.2, groupby mean 0.2, resample mean 0.2, median 0.15
#   DuckDB 2.0.1: avg 0.15, median 0.1
#   pyarrow 26.0.1 after a cast to scale 4: mean 0.1500
# Fails if one of them computes otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install 'pyarrow==26.0.1' 'pandas==3.1.1' 'duckdb==2.0.1'
"$folder/venv/bin/python" - <<'PY'
from decimal import Decimal

import duckdb
import pandas
import pyarrow
from pyarrow import compute

column = pyarrow.array([Decimal("0.1"), Decimal("0.2")], pyarrow.decimal128(10, 1))
table = pyarrow.table({"symbol": ["BTCUSDT", "BTCUSDT"], "price": column})
grouped = table.group_by("symbol").aggregate([("price", "mean")])["price_mean"][0]
arrow = [str(compute.mean(column)), str(grouped), f"{compute.quantile(column)[0].as_py():.4g}"]
print(f"pyarrow {pyarrow.__version__}: mean {{}}, group_by mean {{}}, median {{}}".format(*arrow))

minutes = pandas.to_datetime([0, 60_000], unit="ms")
price = pandas.Series(column, dtype=pandas.ArrowDtype(column.type), index=minutes)
frame = [
    str(price.mean()),
    str(price.groupby([1, 1]).mean().iloc[0]),
    str(price.resample("1h").mean().iloc[0]),
    f"{price.median():.4g}",
]
print(f"pandas {pandas.__version__}: mean {{}}, groupby mean {{}}, resample mean {{}}, median {{}}".format(*frame))

((average, middle),) = duckdb.from_arrow(table).aggregate("avg(price), median(price)").fetchall()
print(f"DuckDB {duckdb.__version__}: avg {average:.4g}, median {middle}")
wide = compute.mean(column.cast(pyarrow.decimal128(20, 4)))
print(f"pyarrow {pyarrow.__version__} after a cast to scale 4: mean {wide}")
assert arrow == ["0.2", "0.2", "0.15"], "it behaves otherwise now"
assert frame == ["0.2", "0.2", "0.2", "0.15"], "it behaves otherwise now"
assert abs(average - 0.15) < 1e-12 and str(middle) == "0.1" and str(wide) == "0.1500", "it behaves otherwise now"
PY
