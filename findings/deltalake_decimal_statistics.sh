#!/bin/sh
# deltalake 1.6.6 (the Python package of delta-rs) writes the smallest and largest value of a file's decimal column into
# the transaction log as a JSON number of double precision, rounded up or down. Readers skip files by these bounds. A
# file whose largest value has more than about 16 digits and was rounded down is skipped by a filter that the value
# satisfies: the row is in the table, and neither `=` nor `>=` finds it, nor does a DELETE, by any of the package's
# readers, without an error.
#
# It matters because a recorder who keeps quote volumes and open interest exact, as decimals, has such values every day:
# the quote volume of one day of a large spot pair has 18 digits, a row of the archive's metrics up to 26. The same
# query finds the value once it shares its file with a larger one, so that a compaction changes the answer. Filter after
# reading, or keep a column of text, or leave the column out of the statistics (delta.dataSkippingStatsColumns).
#
# Output seen with deltalake 1.6.6 and pyarrow 26.0.1:
#   in the log: "maxValues":{"quote_volume":1838654867.1234567}
#   rows in the table: 1, its quote_volume 1838654867.12345671
#   found by to_pyarrow_table(filters =): 0, by to_pyarrow_dataset(>=): 0, by SQL =: 0
#   deleted by DELETE WHERE =: 0
#   found without statistics of that column: 1
# Fails if a filter finds the row.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install 'deltalake==1.6.6' 'pyarrow==26.0.1'
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import re
from decimal import Decimal
from pathlib import Path

import deltalake
import pyarrow
from pyarrow import compute

VOLUME = Decimal("1838654867.12345671")
TYPE = pyarrow.decimal128(38, 8)
kline = pyarrow.table({"open_time": [1704067200000], "quote_volume": pyarrow.array([VOLUME], TYPE)})
deltalake.write_deltalake("klines", kline)
table = deltalake.DeltaTable("klines")
log = Path("klines/_delta_log/00000000000000000000.json").read_text().replace("\\", "")
print(f"deltalake {deltalake.__version__}, pyarrow {pyarrow.__version__}")
bound = re.search(r'"maxValues":\{[^}]*("quote_volume":[^,}]*)', log).group(1)
print(f'in the log: "maxValues":{{{bound}}}')
whole = table.to_pyarrow_table()
print(f"rows in the table: {whole.num_rows}, its quote_volume {whole['quote_volume'][0]}")
assert whole["quote_volume"].to_pylist() == [VOLUME]


def sql(of, question):
    return pyarrow.table(deltalake.QueryBuilder().register("klines", of).execute(question).read_all()).num_rows


literal = f"CAST('{VOLUME}' AS DECIMAL(38, 8))"
equal = f"SELECT * FROM klines WHERE quote_volume = {literal}"
found = (
    table.to_pyarrow_table(filters=[("quote_volume", "=", VOLUME)]).num_rows,
    table.to_pyarrow_dataset().to_table(filter=compute.field("quote_volume") >= pyarrow.scalar(VOLUME, TYPE)).num_rows,
    sql(table, equal),
)
print("found by to_pyarrow_table(filters =): {}, by to_pyarrow_dataset(>=): {}, by SQL =: {}".format(*found))
deleted = table.delete(f"quote_volume = {literal}")["num_deleted_rows"]
print(f"deleted by DELETE WHERE =: {deleted}")
deltalake.write_deltalake("plain", kline, configuration={"delta.dataSkippingStatsColumns": "open_time"})
plain = sql(deltalake.DeltaTable("plain"), equal)
print(f"found without statistics of that column: {plain}")
assert found == (0, 0, 0) and deleted == 0 and plain == 1, "it behaves otherwise now"
PY
