#!/bin/sh
# ccxt 4.5.90 (Python), binanceusdm.fetch_open_interest_history(symbol, "5m", since, limit) asks for a window of limit + 1
# steps: it sets endTime = since + limit * step, and a window includes both its ends. A server that answers with the newest
# `limit` rows of a window therefore leaves out the row at `since`: of a page that begins at 00:05 the first row is that of
# 00:10. Paging with since = last timestamp + 1 loses nothing but the very first row; asking for one row (limit=1) gives the
# one after it.
#
# Shown with a stub on loopback that answers so, for a row every five minutes. Output seen with ccxt 4.5.90:
#   asked: startTime 1700000100000, endTime 1700001000000, limit 3: a window of 4 rows
#   first row: 1700000400000, which is 300000 ms after `since`
# Fails if ccxt asks for another window.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install 'ccxt==4.5.90'
"$folder/venv/bin/python" - <<'PY'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qsl, urlsplit

import ccxt

STEP = 300_000
asked = []


class Stub(BaseHTTPRequestHandler):
    """Rows at every step; the newest `limit` of the inclusive window, ascending."""

    def do_GET(self):
        query = {name: value for name, value in parse_qsl(urlsplit(self.path).query)}
        asked.append(query)
        start, end, limit = (int(query[name]) for name in ("startTime", "endTime", "limit"))
        times = [time for time in range(-(-start // STEP) * STEP, end + 1, STEP)][-limit:]
        rows = [
            {"symbol": "BTCUSDT", "sumOpenInterest": "1.000", "sumOpenInterestValue": "2.00", "timestamp": time}
            for time in times
        ]
        body = json.dumps(rows).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        return


server = HTTPServer(("127.0.0.1", 0), Stub)
threading.Thread(target=server.serve_forever, daemon=True).start()
exchange = ccxt.binanceusdm({"enableRateLimit": False})
exchange.urls["api"]["fapiData"] = f"http://127.0.0.1:{server.server_port}/futures/data"
market = {
    "id": "BTCUSDT", "symbol": "BTC/USDT:USDT", "base": "BTC", "quote": "USDT", "settle": "USDT", "baseId": "BTC",
    "quoteId": "USDT", "settleId": "USDT", "type": "swap", "swap": True, "contract": True, "linear": True,
    "inverse": False, "spot": False, "option": False, "future": False, "active": True, "contractSize": 1,
    "precision": {"price": 0.1, "amount": 0.001}, "limits": {}, "info": {},
}
exchange.set_markets([market])
since = 1_700_000_000_000 // STEP * STEP + STEP
rows = exchange.fetch_open_interest_history("BTC/USDT:USDT", "5m", since=since, limit=3)
(query,) = asked
steps = (int(query["endTime"]) - int(query["startTime"])) // STEP + 1
print(f"ccxt {ccxt.__version__}")
print(f"asked: startTime {query['startTime']}, endTime {query['endTime']}, limit {query['limit']}: a window of {steps} rows")
print(f"first row: {rows[0]['timestamp']}, which is {rows[0]['timestamp'] - since} ms after `since`")
assert steps == 4 and rows[0]["timestamp"] == since + STEP and len(rows) == 3, "it behaves otherwise now"
PY
