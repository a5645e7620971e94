#!/bin/sh
# hyparquet 1.33.0 (npm) reads a DECIMAL of a Parquet file as a number, and not as the number nearest to it once the
# unscaled integer has more than 53 bits: it is made a double first and divided by the scale's power of ten afterwards,
# two roundings instead of one. In a column of scale 16, as wide tables of prices have, a turnover of 77168.11678 is read
# as 77168.11678000001, and so is every fifth one of ten thousand; the same values in a column of scale 5 are all right.
#
# It matters to pages that compare what they read from a file with what an API says, or use it as a key: the JSON of the
# exchange, "77168.11678", becomes another number. None of these values has more than ten digits: the scale decides.
# Write columns with the scale that the values need, or as text; or round to the digits known.
#
# Output seen with pyarrow 26.0.1 and hyparquet 1.33.0:
#   turnover of scale 5: 0 of 10000 are not the nearest number
#   turnover of scale 16: 2264 of 10000 are not the nearest number; 77168.11678 is read as 77168.11678000001
# Fails if all are the nearest, or if decimals are read as another type.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install 'pyarrow==26.0.1'
npm install --silent --no-audit --no-fund --prefix "$folder" hyparquet@1.33.0 >/dev/null
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
from decimal import Decimal

import pyarrow
from pyarrow import parquet

values = [Decimal(7_716_809_724 + 977 * n).scaleb(-5) for n in range(10_000)]
table = {f"scale{scale}": pyarrow.array(values, pyarrow.decimal128(38, scale)) for scale in (5, 16)}
parquet.write_table(pyarrow.table(table), "turnover.parquet")
print(f"pyarrow {pyarrow.__version__}")
PY
cat >"$folder/show.mjs" <<'JS'
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { asyncBufferFromFile, parquetReadObjects } from "hyparquet";

console.log(`hyparquet ${JSON.parse(readFileSync("node_modules/hyparquet/package.json")).version}`);
const rows = await parquetReadObjects({ file: await asyncBufferFromFile("turnover.parquet") });
const written = (n) => {
  const digits = String(7716809724n + 977n * BigInt(n));
  return `${digits.slice(0, -5)}.${digits.slice(-5)}`;
};
const wrong = {};
for (const scale of [5, 16]) {
  const pairs = rows.map((row, n) => [written(n), row[`scale${scale}`]]);
  assert.ok(pairs.every(([, read]) => typeof read === "number"));
  wrong[scale] = pairs.filter(([text, read]) => read !== Number(text));
  const first = wrong[scale][0] ? `; ${wrong[scale][0][0]} is read as ${wrong[scale][0][1]}` : "";
  console.log(`turnover of scale ${scale}: ${wrong[scale].length} of ${rows.length} are not the nearest number${first}`);
}
assert.equal(wrong[5].length, 0);
assert.equal(wrong[16].length, 2264);
JS
node "$folder/show.mjs"
