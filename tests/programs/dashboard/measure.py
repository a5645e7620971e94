"""How fast the chart is and what it keeps: beside a bare page with the same library, on the same machine.

Run by `make dashboard-bench`; writes bench/dashboard.json. A round opens the chart in a new profile and switches its
interval; the bare page fetches the same klines and draws them with nothing around them.
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tests.system.processes import ROOT, free_port, until
from tests.web.chromium import Page
from tests.web.stage import SHOWN, Stage, staged

LIBRARY: Final = ROOT / "app/web/node_modules/lightweight-charts/dist/lightweight-charts.standalone.production.js"
ROUNDS: Final = 10
FIRST_MS_MAX: Final = 1_000.0
SWITCH_MS_MAX: Final = 150.0
HEAP_GROWTH_MB_MAX: Final = 1.0  # in six hours; 360 more bars, of 20,000 at most, take half of it
INTERVALS: Final = ("5m", "1h", "1m")
WAIT: Final = """
window.drawn = (is) => new Promise((done) => {
  const look = () => (is() ? requestAnimationFrame(() => done(performance.now())) : requestAnimationFrame(look));
  look();
});
window.first = window.drawn(() => %s);
"""
"""`first` is when (ms since the navigation) the frame began after the one in which the condition was true."""
CHART: Final = f"({SHOWN}?.bars.length ?? 0) > 20"
SWITCHED: Final = """
(() => {
  const begun = performance.now();
  [...document.querySelectorAll("fieldset button")].find((each) => each.textContent === "%s").click();
  const isShown = (now) => now.interval === "%s" && now.bars.length > 20;
  return window.drawn(() => isShown(window.klinenodeChart())).then((at) => at - begun);
})()
"""
BARE: Final = """<!doctype html><div id="c" style="width:1200px;height:700px"></div>
<script src="/library.js"></script><script>
const {createChart, CandlestickSeries, HistogramSeries} = LightweightCharts;
const chart = createChart(document.getElementById("c"));
const candles = chart.addSeries(CandlestickSeries), volume = chart.addSeries(HistogramSeries, {priceScaleId: "v"});
const load = async (interval) => {
  const rows = await (await fetch("/rows/" + interval)).json();
  candles.setData(rows.map((r) => ({time: r[0] / 1000, open: +r[1], high: +r[2], low: +r[3], close: +r[4]})));
  volume.setData(rows.map((r) => ({time: r[0] / 1000, value: +r[5]})));
  return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))));
};
window.first = load("1m");
window.switched = async (interval) => { const begun = performance.now(); return (await load(interval)) - begun; };
</script>"""
MARKET: Final = """
window.WebSocket = class {
  constructor() { window.market = this; }
  close() {}
  minutes(from, number) {
    for (let minute = 0; minute < number; minute++) {
      const t = from + minute * 60000;
      for (let frame = 1; frame <= 40; frame++) {
        const price = (110000 + ((minute * 40 + frame) % 977)).toFixed(2);
        const k = {t, o: "110000.00", h: "111000.00", l: "109000.00", c: price, v: String(frame), x: frame === 40};
        this.onmessage({data: JSON.stringify({stream: "s", data: {e: "kline", E: t + frame, k}})});
      }
    }
    return from + number * 60000;
  }
};
"""
"""A socket of a market whose minutes pass as fast as the page takes their frames."""


@asynccontextmanager
async def bare_page(stage: Stage) -> AsyncIterator[str]:
    """The address of the bare page, whose rows come from the node through the same connection."""

    async def rows(request: Any) -> Response:
        path = f"/fapi/v1/klines?symbol=BTCUSDT&limit=1000&interval={request.path_params['interval']}"
        return Response((await stage.place.get(path)).content, media_type="application/json")

    library = await asyncio.to_thread(LIBRARY.read_bytes)
    routes = [
        Route("/", lambda _: HTMLResponse(BARE)),
        Route("/library.js", lambda _: Response(library, media_type="text/javascript")),
        Route("/rows/{interval}", rows),
    ]
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), port=port, log_level="error"))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve())

        async def is_up() -> bool:
            return server.started

        await until(is_up, "the bare page is served")
        yield f"http://127.0.0.1:{port}/"
        server.should_exit = True


async def chart_round(stage: Stage) -> tuple[float, list[float]]:
    """When the chart was first drawn, and how long each switch took (ms)."""
    page = await stage.browser.page(before=WAIT % CHART)
    await page.go(stage.url("panes="))
    await page.until("typeof window.first === 'object'", "the page has begun")
    first = await page.value("window.first")
    switches = [await page.value(SWITCHED % (each, each)) for each in INTERVALS]
    await page.close()
    return first, switches


async def bare_round(stage: Stage, url: str) -> tuple[float, list[float]]:
    """The same of the bare page."""
    page = await stage.browser.page()
    await page.go(url)
    await page.until("typeof window.switched === 'function'", "the page has begun")
    first = await page.value("window.first")
    switches = [await page.value(f"window.switched('{each}')") for each in INTERVALS]
    await page.close()
    return first, switches


async def heaps_mb(stage: Stage) -> list[float]:
    """The page's memory after each of eight hours of a market."""
    page: Page = await stage.browser.page(before=MARKET)
    await page.go(stage.url("panes="))
    await page.until(f"{CHART} && typeof window.market?.onmessage === 'function'", "the chart follows the market")
    at_ms = await page.value(f"{SHOWN}.bars.at(-1).time + 60000")
    found = []
    for _ in range(8):
        at_ms = await page.value(f"window.market.minutes({at_ms}, 60)")
        found.append(round(await page.heap_bytes() / 1e6, 2))
    newest = await page.value(f"{SHOWN}.bars.at(-1)?.time")
    assert newest == at_ms - 60_000, "the market's bars were not taken"
    await page.close()
    return found


async def measured(rounds: int) -> dict[str, Any]:
    """All figures, in ms and MB."""
    with tempfile.TemporaryDirectory() as folder:
        async with staged(Path(folder)) as stage, bare_page(stage) as url:
            await chart_round(stage)  # the first one starts the browser's processes
            await bare_round(stage, url)
            ours, bare = [], []
            for _ in range(rounds):
                ours.append(await chart_round(stage))
                bare.append(await bare_round(stage, url))
            heaps = await heaps_mb(stage)
    return {
        "first_chart_ms": median(first for first, _ in ours),
        "bare_first_chart_ms": median(first for first, _ in bare),
        "interval_switch_ms": median(each for _, switches in ours for each in switches),
        "bare_interval_switch_ms": median(each for _, switches in bare for each in switches),
        "heap_mb_by_hour": heaps,
    }


def main() -> int:
    """Measure, print and write; 1 if a promise is not kept."""
    found = asyncio.run(measured(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
    text = orjson.dumps(found, option=orjson.OPT_INDENT_2).decode()
    print(text)
    (ROOT / "bench").mkdir(exist_ok=True)
    (ROOT / "bench" / "dashboard.json").write_text(text + "\n")
    heaps = found["heap_mb_by_hour"]
    kept = {
        f"first chart within {FIRST_MS_MAX:.0f} ms": found["first_chart_ms"] <= FIRST_MS_MAX,
        f"interval switch within {SWITCH_MS_MAX:.0f} ms": found["interval_switch_ms"] <= SWITCH_MS_MAX,
        "memory is flat over eight hours": heaps[-1] <= heaps[1] + HEAP_GROWTH_MB_MAX,
    }
    for promise, is_kept in kept.items():
        print(f"{'kept' if is_kept else 'NOT KEPT'}: {promise}")
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
