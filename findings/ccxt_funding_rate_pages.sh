#!/bin/sh
# ccxt 4.5.90 (Python), binanceusdm.fetch_funding_rate_history(symbol, since, params={"paginate": True, "until": ...})
# lays its pages 1,000 × 8 hours apart, whatever the symbol's funding interval, and asks for at most 1,000 rows a page.
# A symbol that is paid every 4 hours fills 1,000 rows in half of that time: the second half of each page's time is
# never asked for. The list that comes back is sorted, without repeats and without an error, with a hole of 167 days in
# it. Of a symbol that is paid every hour, seven payments in eight are missing.
#
# It matters because many perpetuals are paid every 4 hours or every hour, and the sum of such a list (what a position
# cost) is wrong. Page by hand instead: ask again from the last fundingTime + 1 until a page is empty. The list of a
# symbol paid every 8 hours, as BTCUSDT, is whole.
#
# Shown with a stub on loopback that answers as the endpoint is documented: ascending from startTime, at most `limit`
# rows, for the same 400 days at three intervals. Output seen with ccxt 4.5.90:
#   paid every 8 h: 1200 of 1200 payments, by 2 requests, holes: none
#   paid every 4 h: 1400 of 2400 payments, by 2 requests, holes: day 166.5 to day 333.3
#   paid every 1 h: 2000 of 9600 payments, by 2 requests, holes: day 41.6 to day 333.3, day 375.0 to the end
# Fails if ccxt returns other rows.
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

HOUR = 3_600_000
DAY = 24 * HOUR
SINCE = 1_699_920_000_000  # 2023-11-14 00:00 UTC
UNTIL = SINCE + 400 * DAY
interval = 0
asked = []


class Stub(BaseHTTPRequestHandler):
    """Payments at every interval from startTime to endTime, ascending, the first `limit` of them."""

    def do_GET(self):
        query = dict(parse_qsl(urlsplit(self.path).query))
        asked.append(query)
        start, end, limit = (int(query[name]) for name in ("startTime", "endTime", "limit"))
        assert limit <= 1000
        first = -(-start // interval) * interval
        rows = [
            {"symbol": "AUSDT", "fundingTime": time, "fundingRate": "0.00010000", "markPrice": "1.00000000"}
            for time in range(first, min(end + 1, UNTIL), interval)
        ]
        body = json.dumps(rows[:limit]).encode()
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
exchange.urls["api"]["fapiPublic"] = f"http://127.0.0.1:{server.server_port}/fapi/v1"
exchange.set_markets([{
    "id": "AUSDT", "symbol": "A/USDT:USDT", "base": "A", "quote": "USDT", "settle": "USDT", "baseId": "A",
    "quoteId": "USDT", "settleId": "USDT", "type": "swap", "swap": True, "contract": True, "linear": True,
    "inverse": False, "spot": False, "option": False, "future": False, "active": True, "contractSize": 1,
    "precision": {"price": 0.1, "amount": 1.0}, "limits": {}, "info": {},
}])
print(f"ccxt {ccxt.__version__}")
seen = {}
for hours in (8, 4, 1):
    interval = hours * HOUR
    asked.clear()
    rows = exchange.fetch_funding_rate_history("A/USDT:USDT", since=SINCE, params={"paginate": True, "until": UNTIL})
    times = [row["timestamp"] for row in rows]
    assert times == sorted(set(times)) and times[0] == SINCE
    holes = [(a, b) for a, b in zip(times, [*times[1:], UNTIL]) if b - a > interval]
    told = [
        f"day {(a - SINCE) / DAY:.1f} to " + ("the end" if b == UNTIL else f"day {(b - SINCE) / DAY:.1f}") for a, b in holes
    ]
    due = (UNTIL - SINCE) // interval
    count = f"{len(rows)} of {due} payments, by {len(asked)} requests"
    print(f"paid every {hours} h: {count}, holes: {', '.join(told) or 'none'}")
    seen[hours] = (len(rows), due, len(holes))
assert seen[8] == (1200, 1200, 0), "it behaves otherwise now"
assert seen[4] == (1400, 2400, 1), "it behaves otherwise now"
assert seen[1] == (2000, 9600, 2), "it behaves otherwise now"
PY
