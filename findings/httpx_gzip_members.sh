#!/bin/sh
# httpx 0.28.1 decodes only the first member of a response whose body is gzip of several members, and drops the rest:
# status 200, no error, a body that ends in the middle. A gzip body may consist of several members (RFC 1952, 2.2, which
# HTTP refers to). requests 2.34.2 and aiohttp 3.14.5 read all of them, from the same server, by the same headers.
#
# It matters because servers that stream or stitch answers send such bodies: a page of klines put together from blocks
# that are stored compressed, a query over several days that is packed day by day. Where rows are lines (CSV, NDJSON) a
# cut between two members is not even a syntax error: the rows of the later blocks are just not there. A server that
# wants to be read by httpx has to send one member; a client can send Accept-Encoding: identity, or decode the raw bytes
# by the gzip module.
#
# Shown with a server on loopback that sends three CSV rows as a member each. Output seen:
#   requests 2.34.2: 200, 3 rows
#   aiohttp 3.14.5: 200, 3 rows
#   httpx 0.28.1: 200, 1 row
#   httpx 0.28.1, raw bytes by gzip.decompress: 3 rows
# Fails if one of them reads another number of rows.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install 'httpx==0.28.1' 'requests==2.34.2' 'aiohttp==3.14.5'
"$folder/venv/bin/python" - <<'PY'
import asyncio
import gzip
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import aiohttp
import httpx
import requests

ROWS = [f"{1704067200000 + 60_000 * minute},42283.58,42298.62\n".encode() for minute in range(3)]
BODY = b"".join(gzip.compress(row) for row in ROWS)


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        assert "gzip" in self.headers["Accept-Encoding"]
        self.send_response(200)
        self.send_header("Content-Type", "text/csv")
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *args):
        return


async def by_aiohttp(url):
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


def rows(text):
    count = len(text.splitlines())
    return f"{count} row" + "s" * (count > 1)


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/klines.csv"
answer = requests.get(url, timeout=10)
read = {f"requests {requests.__version__}": (answer.status_code, answer.text)}
read[f"aiohttp {aiohttp.__version__}"] = asyncio.run(by_aiohttp(url))
answer = httpx.get(url)
read[f"httpx {httpx.__version__}"] = (answer.status_code, answer.text)
for name, (status, text) in read.items():
    print(f"{name}: {status}, {rows(text)}")
with httpx.stream("GET", url) as answer:
    raw = b"".join(answer.iter_raw())
print(f"httpx {httpx.__version__}, raw bytes by gzip.decompress: {rows(gzip.decompress(raw).decode())}")
assert [len(text.splitlines()) for _, text in read.values()] == [3, 3, 1], "it behaves otherwise now"
PY
