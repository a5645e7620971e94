"""What browser tests share: an exchange, a node with days of sealed klines, a prefixing proxy, and a browser."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from app.domain.interval import DAY_MS, MINUTE_MS
from app.http.dashboard import BUILT
from infra.sandbox.server import SandboxServer
from tests.system.nginx import NGINX, nginx_conf
from tests.system.processes import Place, Programs, ShiftedClock, free_port, until
from tests.web.chromium import Browser, Page, chromium

HELD_S_MAX: Final = 90.0  # until three days of four symbols are held
AGE_S: Final = 15.0  # the second of a minute at which the exchange starts
YOUNG_MS: Final = 2 * MINUTE_MS  # from this age on a day has closed minutes
PLAYED_MS: Final = 10 * MINUTE_MS  # longer than the tests of one stage take
SHOWN: Final = "window.klinenodeChart?.()"
HAS_BARS: Final = f"({SHOWN}?.bars.length ?? 0) > 20"
PREFIX: Final = "/charts"
SETTINGS: Final = {
    "BACKFILL_DAYS": "3",
    "SEAL_AFTER_DAYS": "0.5",
    "INTERVALS": "1m,5m,1h",
    "PRICE_KLINES": "mark",
    "PRICE_KLINES_SYMBOLS": "BTCUSDT",
    "METRICS": "BTCUSDT",
    "FUNDING": "BTCUSDT",
}
_PROXY: Final = """
server {{
    listen 127.0.0.1:{port};
    location {prefix}/ {{
        proxy_pass http://127.0.0.1:{node}/;
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $klinenode_test_connection;
    }}
}}
map $http_upgrade $klinenode_test_connection {{ default upgrade; '' ''; }}
"""


def within_a_day() -> ShiftedClock:
    """An exchange's clock on which today has closed minutes and does not end during the tests of one stage."""
    clock = ShiftedClock(AGE_S)
    age_ms = clock.now_ms() % DAY_MS
    if YOUNG_MS <= age_ms < DAY_MS - PLAYED_MS:
        return clock
    return ShiftedClock(AGE_S + (YOUNG_MS - age_ms) % DAY_MS // 1000)


@dataclass
class Stage:
    """A node that holds its wish, and a browser."""

    place: Place
    sandbox: SandboxServer
    browser: Browser
    folder: Path
    prefixed: str | None
    """Host and port of the proxy that adds PREFIX; None: nginx is not installed."""

    @property
    def origin(self) -> str:
        return f"127.0.0.1:{self.place.port}"

    def url(self, query: str = "", page: str = "chart") -> str:
        """The address of a page of the dashboard."""
        return f"http://{self.origin}/#/{page}{'?' if query else ''}{query}"

    async def chart(self, query: str = "", **size: Any) -> Page:
        """A page that shows the chart's first bars."""
        page = await self.browser.page(**size)
        await page.go(self.url(query))
        await page.until(HAS_BARS, "the chart shows bars")
        return page

    async def rows(self, start_ms: int, end_ms: int, interval: str = "1m", symbol: str = "BTCUSDT") -> list[list[Any]]:
        """What the API answers for the klines that open in `[start_ms, end_ms)`."""
        found: list[list[Any]] = []
        while start_ms < end_ms:
            path = f"/fapi/v1/klines?symbol={symbol}&interval={interval}&limit=1500&startTime={start_ms}"
            answer = await self.place.get(f"{path}&endTime={end_ms - 1}&only_final=true")
            assert answer.status_code == 200, answer.text
            rows = answer.json()
            found += rows
            if len(rows) < 1500:
                break
            start_ms = rows[-1][0] + 1
        return found


@asynccontextmanager
async def staged(
    folder: Path,
    *,
    settings: Mapping[str, str] = SETTINGS,
    symbols: int = 4,
    faults: Sequence[Callable[[int], Mapping[str, Any]]] = (),
    lacking: int = 0,
    clock: ShiftedClock | None = None,
) -> AsyncIterator[Stage]:
    """A stage. Skips where the dashboard is not built.

    `faults` are made for the exchange's time (ms) when it starts; the node is ready when `lacking` klines are missing.
    Without `clock` the exchange's time is the machine's, but for less than a minute.
    """
    if not (BUILT / "index.html").exists():
        pytest.skip("the dashboard is not built (make web)")
    clock = clock or ShiftedClock(AGE_S)
    async with SandboxServer(clock, symbols=symbols) as sandbox, Programs(folder) as programs:
        for fault in faults:
            sandbox.inject(**fault(sandbox.exchange.clock.now_ms()))
        place = Place(programs, sandbox.port, settings=dict(settings))
        place.serve()

        async def is_held() -> bool:
            report = (await place.get("/v1/coverage?limit=1")).json()
            return bool(report["wished"]) and report["missing"] <= lacking

        async with chromium(programs) as browser:
            await until(is_held if lacking else place.is_whole, "the wish is held", HELD_S_MAX)
            prefixed = None
            if NGINX is not None:
                port = free_port()
                prefixed = f"127.0.0.1:{port}"
                more = _PROXY.format(port=port, prefix=PREFIX, node=place.port)
                conf = nginx_conf(folder, free_port(), place.port, more=more)
                programs.start("-p", str(folder), "-c", str(conf), "-e", str(folder / "error.log"), command=(NGINX,))
            yield Stage(place, sandbox, browser, folder, prefixed)
