#!/bin/sh
# An amount of a token in its smallest unit (123.456789012345678901 ETH are 123456789012345678901 wei), as decentralised
# exchanges and chain indexers send it, as a JSON integer. pandas 3.1.1 read_json keeps the last 64 bits of it:
# 12776324570088369205, also with dtype=False; an integer of 20 digits, 20 ETH, it refuses ("Value is too big!"), one of
# 21 or more it does not. orjson 3.13.0 returns a float, though it returns an int for an integer that fits 64 bits, and
# rounds. polars 2.1.0 and msgspec 0.23.0 return it exactly.
#
# It matters where swaps are collected beside the trades of exchanges: the volumes are wrong without an error, by pandas
# in any digit, and a test with small amounts passes. Take such fields from a parser that keeps them, or ask the source
# for strings.
#
# Output seen:
#   20000000000000000000: pandas ValueError, orjson float 2e+19, polars 20000000000000000000, msgspec 20000000000000000000
#   123456789012345678901: pandas 12776324570088369205, orjson float 1.2345678901234568e+20, polars 123456789012345678901, msgspec 123456789012345678901
#   lost by pandas: 6 times 2^64
# Fails if one of them reads otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install 'pandas==3.1.1' 'orjson==3.13.0' 'polars==2.1.0' 'msgspec==0.23.0'
"$folder/venv/bin/python" - <<'PY'
import io
from importlib.metadata import version

import msgspec
import orjson
import pandas
import polars

print(", ".join(f"{name} {version(name)}" for name in ("pandas", "orjson", "polars", "msgspec")))


def by_pandas(text, **options):
    try:
        return int(pandas.read_json(io.StringIO(text), **options)["amount"][0])
    except ValueError as error:
        return type(error).__name__


seen = {}
for wei in (20 * 10**18, 123456789012345678901):
    text = f'[{{"amount":{wei}}}]'
    seen[wei] = (
        by_pandas(text),
        orjson.loads(text)[0]["amount"],
        polars.read_json(text.encode())["amount"][0],
        msgspec.json.decode(text)[0]["amount"],
    )
    assert by_pandas(text, dtype=False) == seen[wei][0]
    print("{}: pandas {}, orjson {} {}, polars {}, msgspec {}".format(
        wei, seen[wei][0], type(seen[wei][1]).__name__, *seen[wei][1:]))
small, large = seen.items()
lost = divmod(large[0] - large[1][0], 2**64)
print(f"lost by pandas: {lost[0]} times 2^64")
assert small[1] == ("ValueError", 2e19, small[0], small[0]) and type(small[1][1]) is float, "it behaves otherwise now"
assert lost == (6, 0) and type(large[1][1]) is float and large[1][2:] == (large[0],) * 2, "it behaves otherwise now"
assert orjson.loads("[12000000000000000000]") == [12 * 10**18] and type(orjson.loads("12000000000000000000")) is int
PY
