"""Faults that a test injects, and what it asks for then."""

import httpx

KLINES = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=10"
ZIP = "/data/futures/um/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2026-11-19.zip"


async def post(http: httpx.AsyncClient, **fault: object) -> int:
    answer = await http.post("/sandbox/faults", json=fault)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["id"])


async def status(http: httpx.AsyncClient, path: str = KLINES) -> int:
    return (await http.get(path)).status_code
