"""A collector as a real process, with a sandbox of three exchanges and a NATS server beside it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from infra.net.tls import trusting_nobody
from tests.system.processes import Program, Programs, free_port, until

EXCHANGES: Final = ("binance", "okx", "deribit")
TYPES: Final = ("trade", "orderbook", "kline.1m", "ticker", "funding_rate", "open_interest")
SYMBOLS: Final = {"binance": "BTC-USDT", "okx": "BTC-USDT", "deribit": "BTC-USD"}
"""One of each exchange that a test follows in all types."""


@dataclass
class CollectPlace:
    """The sandbox, NATS server, folder and port of a collector, and how to start it with them."""

    programs: Programs
    sandbox_port: int
    nats_url: str
    port: int = field(default_factory=free_port)
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """COLLECT_DIR."""
        return self.programs.folder / "collect"

    @property
    def env(self) -> dict[str, str]:
        """The settings of the collector."""
        rest, sockets = f"http://127.0.0.1:{self.sandbox_port}", f"ws://127.0.0.1:{self.sandbox_port}"
        return {
            **{f"{name.upper()}_REST_URL": rest for name in EXCHANGES},
            **{f"{name.upper()}_WS_URL": sockets for name in EXCHANGES},
            "EXCHANGES": ",".join(EXCHANGES),
            "NATS_URL": self.nats_url,
            "COLLECT_DIR": str(self.folder),
            "COLLECT_SYMBOLS": "BTC-USDT,deribit:BTC-USD",
            "COLLECT_TYPES": ",".join(TYPES),
            "PORT": str(self.port),
            **self.settings,
        }

    def collect(self) -> Program:
        """Start `klinenode collect`."""
        return self.programs.start("collect", env=self.env)

    def http(self, **headers: str) -> httpx.AsyncClient:
        """A client of the collector's port."""
        url = f"http://127.0.0.1:{self.port}"
        return httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=25, verify=trusting_nobody())

    async def get(self, path: str) -> httpx.Response:
        """The answer to a GET."""
        async with self.http() as client:
            return await client.get(path)

    async def ask(self, exchange: str, action: str, symbol: str, *types: str) -> httpx.Response:
        """Subscribe or unsubscribe a symbol, with the token of the collector's file."""
        token = (self.folder / "collector.token").read_text().strip()
        async with self.http(Authorization=f"Bearer {token}") as client:
            body = {"action": action, "symbols": [symbol], "data_types": list(types)}
            return await client.post(f"/api/v1/exchanges/{exchange}/subscribe", json=body)

    async def status(self) -> dict[str, Any]:
        """What /api/v1/status says."""
        status: dict[str, Any] = (await self.get("/api/v1/status")).json()
        return status

    async def reasons(self) -> list[str]:
        """The sentences of /v1/health."""
        answer = await self.get("/v1/health")
        assert answer.status_code == 200, "health is liveness"
        reasons: list[str] = answer.json()["reasons"]
        return reasons

    async def faulty(self, words: str) -> str:
        """Wait for a sentence with these words in /v1/health, and return it."""

        async def found() -> str:
            return next((each for each in await self.reasons() if words in each), "")

        return await until(found, f"/v1/health says {words!r}")

    async def well(self) -> None:
        """Wait until every feed is followed and /v1/health has no reason to be degraded."""

        async def is_well() -> bool:
            exchanges = (await self.status())["exchanges"]
            return not await self.reasons() and all(each["state"] == "following" for each in exchanges.values())

        await until(is_well, "the collector follows all exchanges without a fault")

    async def is_whole(self) -> bool:
        """Whether no gap is open and nothing waits for the stream beside what has just come."""
        status = await self.status()
        types = [of_type for each in status["exchanges"].values() for of_type in each["types"].values()]
        return not status["outbox"]["spilled_bytes"] and not any(each["gaps_open"] for each in types)
