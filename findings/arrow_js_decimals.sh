#!/bin/sh
# apache-arrow 21.2.0 (npm) reads a Decimal of an Arrow file as its unscaled integer. A price of 60000.10 in a column of
# scale 8, written by polars (pyarrow writes the same form), is 6000010000000 by String(), in the JSON of its row, and
# by Number(): the library knows the scale (column.type.scale) and does not apply it, to any of them. -0.00000001 is -1.
# The type's own name is misleading too: decimal(18, 8) is printed as Decimal[18e+8].
#
# It matters to every page and notebook that plots an exact export: prices are wrong by a power of ten that differs by
# column. A quantity of scale 3 beside a price of scale 8 is off by another factor. Number() throws from 2^53 on, at
# 90,071,992 of scale 8. Put the point in from column.type.scale, or export the columns as text.
#
# Output seen with polars 2.1.0 and apache-arrow 21.2.0:
#   written by polars: price 60000.10000000, quantity 0.250, rate -0.00000001
#   price: Decimal[18e+8], scale 8, String 6000010000000, Number 6000010000000
#   quantity: Decimal[18e+3], scale 3, String 250, Number 250
#   rate: Decimal[18e+8], scale 8, String -1, Number -1
#   row: {"price": 6000010000000, "quantity": 250, "rate": -1}
# Fails if the values are scaled.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install 'polars==2.1.0'
npm install --silent --no-audit --no-fund --prefix "$folder" apache-arrow@21.2.0 >/dev/null
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
from decimal import Decimal

import polars

values = {"price": "60000.10000000", "quantity": "0.250", "rate": "-0.00000001"}
scales = {"price": 8, "quantity": 3, "rate": 8}
schema = {name: polars.Decimal(18, scale) for name, scale in scales.items()}
frame = polars.DataFrame({name: [Decimal(text)] for name, text in values.items()}, schema=schema)
frame.write_ipc("kline.arrow", compression="uncompressed")
read = polars.read_ipc("kline.arrow")
print(f"polars {polars.__version__}")
print("written by polars: " + ", ".join(f"{name} {read[name].cast(polars.String)[0]}" for name in values))
PY
cat >"$folder/show.mjs" <<'JS'
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { tableFromIPC } from "apache-arrow";

console.log(`apache-arrow ${JSON.parse(readFileSync("node_modules/apache-arrow/package.json")).version}`);
const table = tableFromIPC(readFileSync("kline.arrow"));
const seen = {};
for (const name of ["price", "quantity", "rate"]) {
  const column = table.getChild(name);
  const value = column.get(0);
  console.log(`${name}: ${column.type}, scale ${column.type.scale}, String ${value}, Number ${Number(value)}`);
  seen[name] = [String(value), Number(value), column.type.scale];
}
console.log(`row: ${table.get(0)}`);
assert.deepEqual(seen.price, ["6000010000000", 6000010000000, 8]);
assert.deepEqual(seen.quantity, ["250", 250, 3]);
assert.deepEqual(seen.rate, ["-1", -1, 8]);
JS
node "$folder/show.mjs"
