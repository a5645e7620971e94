#!/bin/sh
# ccxt 4.5.90 (Python): build_ohlcvc(trades, timeframe), which ccxt offers to make candles of trades, counts weeks and
# months from 1970-01-01 in steps of 7 and 30 days. Its weeks begin on Thursday, and its months drift: that of a trade
# of 2024-05-15 begins on 2024-04-17. round_timeframe(timeframe, time) of the same library, and the exchange, say Monday
# 2024-05-13 and 2024-05-01. Days agree, so that a test with minutes, hours or days shows nothing.
#
# It matters to whoever completes fetched candles by the one in progress, made of live trades: two candles of 1w that
# overlap, and a 1M candle that holds trades of two months, both in the form of a valid row. Take the open time from
# round_timeframe.
#
# Output seen with ccxt 4.5.90, for trades of Wednesday 2024-05-15 12:00 UTC:
#   1d: build_ohlcvc 2024-05-15 (Wed), round_timeframe 2024-05-15 (Wed)
#   1w: build_ohlcvc 2024-05-09 (Thu), round_timeframe 2024-05-13 (Mon)
#   1M: build_ohlcvc 2024-04-17 (Wed), round_timeframe 2024-05-01 (Wed)
#   trades of Wednesday and the next Thursday, of one ISO week: 2 candles of 1w
# Fails if the two agree.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install 'ccxt==4.5.90'
"$folder/venv/bin/python" - <<'PY'
from datetime import UTC, datetime

import ccxt

DAY = 86_400_000
NOON = 1_715_774_400_000  # Wednesday 2024-05-15 12:00 UTC
exchange = ccxt.binanceusdm()
print(f"ccxt {ccxt.__version__}")


def trade(time):
    return {"id": str(time), "timestamp": time, "price": 1.0, "amount": 1.0}


def date(time):
    return datetime.fromtimestamp(time / 1000, UTC).strftime("%Y-%m-%d (%a)")


seen = {}
for timeframe in ("1d", "1w", "1M"):
    ((built, *_),) = exchange.build_ohlcvc([trade(NOON), trade(NOON + 1)], timeframe)
    rounded = exchange.round_timeframe(timeframe, NOON)
    print(f"{timeframe}: build_ohlcvc {date(built)}, round_timeframe {date(rounded)}")
    seen[timeframe] = (date(built), date(rounded))
candles = exchange.build_ohlcvc([trade(NOON), trade(NOON + DAY)], "1w")
print(f"trades of Wednesday and the next Thursday, of one ISO week: {len(candles)} candles of 1w")
assert seen["1d"] == ("2024-05-15 (Wed)", "2024-05-15 (Wed)"), "it behaves otherwise now"
assert seen["1w"] == ("2024-05-09 (Thu)", "2024-05-13 (Mon)"), "it behaves otherwise now"
assert seen["1M"] == ("2024-04-17 (Wed)", "2024-05-01 (Wed)") and len(candles) == 2, "it behaves otherwise now"
PY
