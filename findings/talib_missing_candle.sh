#!/bin/sh
# TA-Lib 0.8.2 (Python wheel, C library 0.8.1): one NaN among the closes, as a missing candle leaves it, makes RSI
# exactly 0.0 for the rest of the series, also thousands of candles later, and CMO too. SMA and EMA become NaN for ever,
# as the wrapper's documentation warns (a NaN is carried to the end), while MAX recovers once the NaN has left its
# window. So the documented sign of a hole is missing just where it is needed.
#
# It matters because RSI 0 does not mean "unknown" but is the strongest "oversold" there is, and strategies buy on it. A
# frame of klines that was laid on the full grid of minutes (pandas reindex, asfreq) has a NaN for each minute that the
# exchange does not have. Compute on the rows that exist, and lay the result on the grid.
#
# Output seen with TA-Lib 0.8.2 and numpy 2.4.6, for 2,000 closes of which the 100th is missing:
#   RSI(14): last value 0.0000 with the hole, 70.1910 without; values of 0.0 from the hole on: 1901 of 1901
#   CMO(14): last value 0.0000 with the hole, 40.3820 without; values of 0.0 from the hole on: 1901 of 1901
#   SMA(14): last value nan with the hole
#   MAX(14): last value as without the hole
# Fails if RSI is anything else after the hole.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install 'ta-lib==0.8.2' 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PY'
import random

import numpy
import talib

HOLE = 99
chance = random.Random(7)
closes = [100.0]
while len(closes) < 2000:
    closes.append(closes[-1] * (1 + chance.uniform(-0.01, 0.01)))
whole = numpy.array(closes)
holed = whole.copy()
holed[HOLE] = numpy.nan
print(f"TA-Lib {talib.__version__} (C {talib.__ta_version__.decode()}), numpy {numpy.__version__}")
for name in ("RSI", "CMO"):
    function = getattr(talib, name)
    after, without = function(holed, timeperiod=14)[HOLE:], function(whole, timeperiod=14)
    zeros = int((after == 0.0).sum())
    print(
        f"{name}(14): last value {after[-1]:.4f} with the hole, {without[-1]:.4f} without; "
        f"values of 0.0 from the hole on: {zeros} of {len(after)}"
    )
    assert zeros == len(after) == 1901 and without[-1] != 0.0, "it behaves otherwise now"
mean, largest = talib.SMA(holed, timeperiod=14), talib.MAX(holed, timeperiod=14)
print(f"SMA(14): last value {mean[-1]} with the hole")
print("MAX(14): last value " + ("as without the hole" if largest[-1] == talib.MAX(whole, timeperiod=14)[-1] else "differs"))
assert numpy.isnan(mean[HOLE:]).all() and largest[-1] == talib.MAX(whole, timeperiod=14)[-1], "it behaves otherwise now"
PY
