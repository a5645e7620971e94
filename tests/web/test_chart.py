"""The chart in a browser shows exactly what the API answers: live, in the past, behind a prefix, by keyboard."""

from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest
import pytest_asyncio

from app.domain.interval import DAY_MS, M1, MINUTE_MS
from app.domain.series import Series
from app.kinds.klines import KLINES
from infra.sqlite.library import sqlite3
from tests.stores.databases import SqliteDatabase
from tests.system.processes import until
from tests.web.chromium import NEEDS_CHROMIUM, Page
from tests.web.stage import HAS_BARS, PREFIX, SHOWN, Stage, staged

pytestmark = [NEEDS_CHROMIUM, pytest.mark.asyncio(loop_scope="module")]
CLOSE_S_MAX = 90.0  # a minute, and patience for a busy machine
NAMES = ("time", "open", "high", "low", "close", "volume")

HOSTILE = """
window.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    const seen = (window.frames_seen ??= {late: 0, swallowed: 0, sockets: 0});
    seen.sockets += 1;
    let before = null;
    let handler = null;
    Object.defineProperty(this, "onmessage", { set: (given) => (handler = given) });
    this.addEventListener("message", (event) => {
      if (JSON.parse(event.data).data.k.x && seen.swallowed === 0) return void (seen.swallowed += 1);
      handler(event);
      if (before !== null) { handler(before); seen.late += 1; }
      before = event;
      if (seen.late === 8 && seen.sockets === 1) this.close();
    });
  }
};
"""
"""A socket that delivers each frame twice, once after the next one, loses the first closing frame, and ends once."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("web")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def watched(stage: Stage) -> Page:
    """A chart that is open from the module's begin on, so that its minute ends while other tests run."""
    return await stage.chart(before=HOSTILE)


async def shown(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = await page.value(SHOWN)
    return found


async def assert_equal_to_the_api(stage: Stage, found: dict[str, Any]) -> None:
    """Assert that the closed bars of a chart are the rows of the API, to the digit, and that none is left out."""
    step_ms = found["step"]
    closed = [bar for bar in found["bars"] if bar["time"] < found["range"]["to"]]  # the last one may be in progress
    rows = await stage.rows(closed[0]["time"], closed[-1]["time"] + step_ms, found["interval"], found["symbol"])
    assert [[bar[name] for name in NAMES] for bar in closed] == [row[:6] for row in rows]


async def test_bars_are_the_rows_of_the_api_and_each_interval_has_its_own(stage: Stage) -> None:
    page = await stage.chart()
    assert (await shown(page))["interval"] == "1m"
    await assert_equal_to_the_api(stage, await shown(page))
    await page.press("]", 2)
    await page.until(f"{SHOWN}.interval === '5m' && {HAS_BARS}", "five minutes are shown")
    await assert_equal_to_the_api(stage, await shown(page))
    await page.until(f"{SHOWN}.panes.interest > 5", "open interest is drawn")
    await page.press("[")
    await page.until(f"{SHOWN}.interval === '3m' && {SHOWN}.marks.missing.length === 1", "what is not held is marked")
    assert (await shown(page))["bars"] == []
    await page.until("document.querySelector('.below').textContent.includes('missing')", "and counted")
    page.assert_clean(stage.origin)
    await page.close()


async def test_the_view_moves_into_the_past_over_sealed_blocks(stage: Stage) -> None:
    database = SqliteDatabase(stage.place.programs.folder / stage.place.database)

    async def is_sealed() -> bool:
        return bool(database.blocks(Series(KLINES, "BTCUSDT", M1)))

    await until(is_sealed, "a day of minutes is sealed")
    [(sealed_ms, rows), *_] = database.blocks(Series(KLINES, "BTCUSDT", M1))
    page = await stage.chart()
    for _ in range(60):
        await page.press("-")
        if (found := await shown(page))["range"]["to"] - found["range"]["from"] > 500 * MINUTE_MS:
            break
    for _ in range(200):
        found = await shown(page)
        if found["range"]["from"] < sealed_ms + rows * MINUTE_MS - 300 * MINUTE_MS:
            break
        await page.press("ArrowLeft")
    await page.until(f"{HAS_BARS} && !document.querySelector('.fault:not([hidden])')", "bars of the past are shown")
    found = await shown(page)
    assert found["range"]["from"] < sealed_ms + DAY_MS
    assert found["step"] == MINUTE_MS
    await assert_equal_to_the_api(stage, found)
    page.assert_clean(stage.origin)
    await page.close()


async def test_more_bars_than_a_screen_has_pixels_are_added_up_by_the_node(stage: Stage) -> None:
    page = await stage.chart()
    for number in range(60):
        await page.press("-" if number % 5 else "End")  # bars that come meanwhile may have moved the newest out of view
        if (await shown(page))["step"] > MINUTE_MS:
            break
    await page.until(f"{SHOWN}.step > 60000 && {HAS_BARS}", "bars of several minutes are shown")
    found = await shown(page)
    assert len(found["bars"]) < 4_100
    bar = found["bars"][len(found["bars"]) // 2]
    rows = await stage.rows(bar["time"], bar["time"] + found["step"])
    assert (bar["open"], bar["close"]) == (rows[0][1], rows[-1][4])
    assert float(bar["high"]) == max(float(row[2]) for row in rows)
    assert float(bar["low"]) == min(float(row[3]) for row in rows)
    for _ in range(40):
        await page.press("+")
        if len((await shown(page))["bars"]) < 200:
            break  # so few that each is to be of fewer klines; further presses would leave a handful of them
    await page.until(f"{SHOWN}.step === 60000 && {HAS_BARS}", "single minutes are shown again")
    page.assert_clean(stage.origin)
    await page.close()


async def test_a_symbol_is_found_by_keyboard_and_other_prices_have_bars(stage: Stage) -> None:
    page = await stage.chart("interval=5m")
    await page.press("/")
    await page.type("eth")
    await page.until("document.querySelectorAll('.search li[id]').length > 0", "there are matches")
    await page.press("Enter")
    await page.until(f"{SHOWN}.symbol === 'ETHUSDT' && {HAS_BARS}", "the symbol is shown")
    await assert_equal_to_the_api(stage, await shown(page))
    assert "symbol=ETHUSDT" in await page.value("location.hash")
    page.assert_clean(stage.origin)
    await page.close()
    page = await stage.chart("kind=mark&interval=5m&panes=")
    await page.until(f"{SHOWN}.live === 'polling'", "the row in progress is asked for")
    assert (await shown(page))["kind"] == "mark"
    page.assert_clean(stage.origin)
    await page.close()


async def test_a_kline_that_was_revised_is_marked_and_counted(stage: Stage) -> None:
    symbol = "SOLUSDT"  # of which the node has no answer in its cache yet
    rows = (await stage.place.get(f"/fapi/v1/klines?symbol={symbol}&interval=1m&limit=30")).json()
    at_ms = rows[0][0]
    file = stage.place.programs.folder / stage.place.database
    with closing(sqlite3.connect(file)) as connection, connection:
        before = (symbol, "1m", at_ms, *"123456", 7, "8", "9", "ws", "rest", at_ms)
        connection.execute(f"INSERT INTO revision VALUES (NULL{', ?' * len(before)})", before)
    page = await stage.chart(f"symbol={symbol}&panes=")
    assert (await shown(page))["marks"]["revised"] == [at_ms]
    await page.until("document.querySelector('.below').textContent.startsWith('1 revised')", "it is counted")
    page.assert_clean(stage.origin)
    await page.close()


async def test_on_a_phone_nothing_is_wider_than_the_screen(stage: Stage) -> None:
    page = await stage.chart(width=390, height=844, scale=2)
    assert await page.value("document.documentElement.scrollWidth") <= 390
    assert await page.value("document.querySelector('.canvas').getBoundingClientRect().width") > 300
    page.assert_clean(stage.origin)
    await page.close()


async def test_behind_a_prefix_it_is_the_same(stage: Stage) -> None:
    if stage.prefixed is None:
        pytest.skip("nginx is not installed (apt-get install nginx-light)")
    page = await stage.browser.page()
    await page.go(f"http://{stage.prefixed}{PREFIX}/#/chart")
    await page.until(f"{HAS_BARS} && {SHOWN}.live === 'live'", "the chart is live behind the prefix")
    await assert_equal_to_the_api(stage, await shown(page))
    page.assert_clean(f"{stage.prefixed}{PREFIX}")
    await page.close()


async def test_the_policy_allows_no_inline_script_and_no_inline_style(stage: Stage) -> None:
    policy = (await stage.place.get("/")).headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


async def test_a_close_reaches_the_chart_though_frames_are_late_doubled_and_lost(stage: Stage, watched: Page) -> None:
    begun = await watched.value("performance.timeOrigin")
    closes = f"{SHOWN}.bars.filter((bar) => bar.time > {begun} - 60000).length"
    await watched.until(f"{closes} > 1 && {SHOWN}.live === 'live'", "a minute closed and the next began", CLOSE_S_MAX)
    seen = await watched.value("window.frames_seen")
    assert seen["late"] > 8
    assert seen["sockets"] == 2
    await assert_equal_to_the_api(stage, await shown(watched))
    watched.assert_clean(stage.origin)
