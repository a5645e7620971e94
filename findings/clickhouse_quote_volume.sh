#!/bin/sh
# ClickHouse 26.9 (chdb-core 26.9.0): sums and products of 128-bit decimals wrap round to negative numbers, without an
# error, with decimal_check_overflow = 1, its default. A product has the scales of both factors, so that of a price of
# decimal(28,10) and a quantity of decimal(36,16) has 26 decimals, and room for 12 digits before the point alone.
#
# These are common types for prices and quantities in Parquet files, and the sum of price × quantity is what people ask
# for first. It is right for minutes and days, and wrong from 1.7e12 of quote currency on, which a large contract trades
# within months. The squares of quantities wrap above 1,304 coins. Of Decimal64 the same check raises an error, and
# so does the division for a volume-weighted average, whether its sums have wrapped or not. One factor of toDecimal256 in
# the product makes all of them right.
#
# Output seen (1,000 trades of 50,000.5 coins at 60,000.1, of which 600 are 1.8e12):
#   500 trades:            1500017500025
#   600 trades:            -1602802669179.38463463374607431768211456
#   600, by Decimal256:    1800021000030
#   average, by 128 bits:  DECIMAL_OVERFLOW
#   average, by 256 bits:  60000.1
#   volume squared:        -1402965.23870011835749384403451373420544 (of 1,000,000 coins)
#   by Decimal64:          DECIMAL_OVERFLOW
# Fails if a sum or a product that does not fit is refused, or right.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install 'chdb-core==26.9.0'
"$folder/venv/bin/python" - <<'PY'
from decimal import Decimal

import chdb

PRICE, QUANTITY = Decimal("60000.1"), Decimal("50000.5")


def value(query):
    try:
        return str(chdb.query(query, "TSV")).strip()
    except Exception as error:
        return str(error).strip().rpartition("(")[2].rstrip(".)")


def trades(count):
    price = f"CAST('{PRICE}' AS Decimal(28, 10)) AS price"
    return f"(SELECT {price}, CAST('{QUANTITY}' AS Decimal(36, 16)) AS quantity FROM numbers({count}))"


def squared(kind):
    return value(f"SELECT a * a FROM (SELECT CAST('1000000' AS {kind}) AS a)")


wide = "toDecimal256(price, 10) * quantity"
few = value(f"SELECT sum(price * quantity) FROM {trades(500)}")
many = value(f"SELECT sum(price * quantity) FROM {trades(600)}")
right = value(f"SELECT sum({wide}) FROM {trades(600)}")
average = value(f"SELECT sum(price * quantity) / sum(quantity) FROM {trades(600)}")
exact = value(f"SELECT sum({wide}) / sum(quantity) FROM {trades(600)}")
square, checked = squared("Decimal(36, 16)"), squared("Decimal(18, 8)")
print(value("SELECT version(), value FROM system.settings WHERE name = 'decimal_check_overflow'"))
print(f"500 trades:            {few}")
print(f"600 trades:            {many}")
print(f"600, by Decimal256:    {right}")
print(f"average, by 128 bits:  {average}")
print(f"average, by 256 bits:  {exact}")
print(f"volume squared:        {square}")
print(f"by Decimal64:          {checked}")
assert Decimal(few) == 500 * PRICE * QUANTITY and Decimal(right) == 600 * PRICE * QUANTITY
assert Decimal(exact) == PRICE and average == checked == "DECIMAL_OVERFLOW", "it behaves otherwise now"
assert Decimal(many) < 0 and Decimal(square) < 0, "it behaves otherwise now"
PY
