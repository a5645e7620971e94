#!/bin/sh
# influxdb-client 1.50.0 (Python) writes a Decimal as a number where it is a field of a Point or of a dict, and as a
# quoted string where it comes in a pandas DataFrame, as Python objects and as an Arrow column of decimals alike.
# InfluxDB fixes a field's type by the first write and refuses the other type (a field type conflict), so that a
# backfill by DataFrame and a live feed by Point cannot write one measurement, and one that was begun by the DataFrame
# has text where prices were meant.
#
# It matters because exact market data is a Decimal in Python, and a backfill comes as frames where the live feed comes
# as points. Convert a frame's decimal columns to float before writing.
#
# Shown with a server on loopback that notes what is written. Output seen with influxdb-client 1.50.0, pandas 3.1.1,
# pyarrow 26.0.1:
#   Point: klines close=60000.10 1704067200000
#   dict: klines close=60000.10 1704067200000
#   DataFrame of objects: klines close="60000.10" 1704067200000
#   DataFrame of Arrow decimals: klines close="60000.10" 1704067200000
# Fails if the client writes otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install 'influxdb-client==1.50.0' 'pandas==3.1.1' 'pyarrow==26.0.1'
"$folder/venv/bin/python" - <<'PY'
import threading
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer

import influxdb_client
import pandas
import pyarrow
from influxdb_client import InfluxDBClient, Point, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS

TIME = 1_704_067_200_000
CLOSE = Decimal("60000.10")
written = []


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        written.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        return


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
index = pandas.to_datetime([TIME], unit="ms", utc=True)
arrow = pandas.ArrowDtype(pyarrow.decimal128(18, 2))
records = {
    "Point": Point("klines").field("close", CLOSE).time(TIME, WritePrecision.MS),
    "dict": {"measurement": "klines", "fields": {"close": CLOSE}, "time": TIME},
    "DataFrame of objects": pandas.DataFrame({"close": [CLOSE]}, index=index),
    "DataFrame of Arrow decimals": pandas.DataFrame({"close": pandas.Series([CLOSE], dtype=arrow, index=index)}),
}
print(f"influxdb-client {influxdb_client.__version__}, pandas {pandas.__version__}, pyarrow {pyarrow.__version__}")
with InfluxDBClient(f"http://127.0.0.1:{server.server_port}", token="-", org="org") as client:
    writer = client.write_api(write_options=SYNCHRONOUS)
    for name, record in records.items():
        frame = {"data_frame_measurement_name": "klines"} if name.startswith("DataFrame") else {}
        writer.write(bucket="bucket", record=record, write_precision=WritePrecision.MS, **frame)
        print(f"{name}: {written[-1].strip()}")
number, text = f"klines close=60000.10 {TIME}", f'klines close="60000.10" {TIME}'
assert [line.strip() for line in written] == [number, number, text, text], "it behaves otherwise now"
PY
