"""All pages in a browser: a planted gap and its repair, keyboard alone, and what axe finds."""

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from app.domain.interval import DAY_MS, HOUR_MS, MINUTE_MS
from infra.sandbox.grid import utc
from tests.system.processes import ROOT, until
from tests.web.chromium import NEEDS_CHROMIUM, Page
from tests.web.collecting import COLLECTOR
from tests.web.stage import HAS_BARS, SHOWN, Stage, staged, within_a_day

pytestmark = [NEEDS_CHROMIUM, pytest.mark.asyncio(loop_scope="module")]
SETTINGS: Final = {"BACKFILL_DAYS": "2", "INTERVALS": "1m,5m", "ADMIN_TOKEN": "a-token-of-twenty-letters"}
SYMBOL: Final = "ETHUSDT"
HOLE_MINUTES: Final = 30
LACKING: Final = HOLE_MINUTES + HOLE_MINUTES // 5  # of both intervals: a roll-up needs its parts
REPAIRED_S_MAX: Final = 90.0  # a gap that the exchange could not close is tried again after 2 s, 4 s and so on
AXE: Final = ROOT / "app" / "web" / "node_modules" / "axe-core" / "axe.min.js"
READY: Final = {
    "overview": "document.querySelector('.overview .cards:not([hidden])') !== null",
    "coverage": "document.querySelector('.coverage .summary')?.textContent.includes('series')",
    "chart": HAS_BARS,
    "collector": "document.querySelector('.collector .sentence')?.textContent.length > 0",
}
"""When a page shows what it has to show, by its name and in the order of the navigation."""

COLOURS: Final = "['color-contrast', 'link-in-text-block']"  # what depends on the theme
FRAME: Final = 9  # stops of the navigation and the buttons beside it
STOPS: Final = """(() => {
  const all = [...document.querySelectorAll('a[href], button, input, select, textarea, [tabindex="0"]')];
  window.stops = all.filter((each) => each.checkVisibility() && !each.disabled);
  return window.stops.length;
})()"""
STOP: Final = """(() => {
  const at = document.activeElement, box = at.getBoundingClientRect(), style = getComputedStyle(at);
  const isSeen = box.left >= -1 && box.right <= innerWidth + 1 && box.bottom > 0 && box.top < innerHeight;
  const isMarked = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
  return [window.stops.indexOf(at), isSeen && isMarked];
})()"""
"""The number of the stop that has the focus, and whether somebody sees that it has."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    def hole(now_ms: int) -> dict[str, Any]:
        begin_ms = now_ms // DAY_MS * DAY_MS - DAY_MS + 6 * HOUR_MS
        span = {"from_ms": begin_ms, "to_ms": begin_ms + HOLE_MINUTES * MINUTE_MS}
        return {"kind": "hole", "symbol": SYMBOL, "interval": "1m", **span}

    folder = tmp_path_factory.mktemp("pages")
    clock = within_a_day()  # the heatmap's days are those of the hole while all tests run
    async with staged(folder, settings=SETTINGS, symbols=2, faults=[hole], lacking=LACKING, clock=clock) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(stage: Stage) -> Page:
    """One page for all tests: to make one takes the browser as long as most tests."""
    return await stage.browser.page(before=COLLECTOR)


async def text(page: Page, selector: str) -> str:
    """What an element says; empty if there is none."""
    found: str = await page.value(f"document.querySelector({selector!r})?.innerText ?? ''")
    return found


async def show(page: Page, stage: Stage, name: str) -> None:
    """Load a page anew, and wait until it shows what it has to show."""
    await page.go("about:blank")
    await page.go(stage.url(page=name))
    await page.until(READY[name], f"{name} is shown")


async def focus(page: Page, selector: str) -> None:
    """Press Tab until the element has the focus."""
    for _ in range(await page.value(STOPS) + 1):
        if await page.value(f"document.activeElement.matches({selector!r})"):
            return
        await page.press("Tab")
    raise AssertionError(f"Tab does not reach {selector}")


async def days_of(page: Page, symbol: str) -> list[str]:
    """What is read out of the days of the symbols that begin so, as the cursor passes them: the newest day first."""
    await focus(page, ".heatmap")
    await page.press("PageUp", 2)  # the first press puts the cursor into the heatmap
    await page.press("End")
    for _ in range(9):
        if (await text(page, ".under")).startswith(symbol):
            break
        await page.press("ArrowDown")
    said: list[str] = []
    for _ in range(4):
        said.append((await text(page, ".under")).partition(": ")[2])
        await page.press("ArrowLeft")
    await page.press("ArrowRight", 3)
    return said


async def test_the_heatmap_shows_a_planted_gap_its_spans_and_its_repair_without_a_mouse(
    stage: Stage, page: Page
) -> None:
    await show(page, stage, "coverage")
    listed = utc(stage.sandbox.exchange.clock.now_ms() - DAY_MS)  # the coin of yesterday trades at every hour of today
    assert await days_of(page, f"NEW{listed:%m%d}") == ["held", "held", "proven absent", "proven absent"]
    assert await days_of(page, SYMBOL) == ["held", "partly missing", "held", "not wished"]
    assert "1 series are not whole" in await text(page, ".summary")
    day = (await text(page, ".under")).removeprefix(f"{SYMBOL}, ").partition(":")[0]
    assert await text(page, ".run.p") == f"{day}: partly missing"
    await page.press("Enter")
    await page.until("document.querySelector('dialog table') !== null", "the spans of the day are shown")
    spans = await text(page, "dialog tbody")
    assert f"missing\t{day} 06:00:00\t{day} 06:30:00" in spans
    assert f"held\t{day} 00:00:00\t{day} 06:00:00" in spans
    assert f"{HOLE_MINUTES} rows missing" in await text(page, "dialog")
    await page.press("Escape")
    closed = "document.querySelector('dialog') === null && document.activeElement.matches('.heatmap')"
    await page.until(closed, "Escape closes the spans, and the focus is back")

    stage.sandbox.faults.clear()
    await until(stage.place.is_whole, "the node has closed the gap", REPAIRED_S_MAX)
    await page.press("r")
    await page.until("!document.querySelector('.summary').textContent.includes('not whole')", "the repair is shown")
    assert await text(page, ".under") == f"{SYMBOL}, {day}: held"  # under the cursor that has not moved
    assert await page.value("document.querySelector('.run') === null")
    page.assert_clean(stage.origin)


async def test_tab_reaches_everything_in_order_and_shows_where_it_is(stage: Stage, page: Page) -> None:
    await show(page, stage, "overview")
    for number, (name, is_ready) in enumerate(READY.items(), 1):
        await page.press(str(number))
        await page.until(is_ready, f"{name} is shown")
        count = await page.value(STOPS)
        stops: list[list[Any]] = []
        for _ in range(count + 1):  # once in the round Tab is in the browser's own controls
            await page.press("Tab")
            stops.append(await page.value(STOP))
        found = [stop for stop in stops if stop[0] >= 0]
        first = 0 if number == 1 or count == FRAME else FRAME  # a page that was gone to begins behind the frame
        assert found == [[stop, True] for stop in (*range(first, count), *range(first))], name
        await focus(page, "header a")
        await page.press("Tab", shift=True)
        assert await page.value(STOP) == [0, True], "the link that skips the frame is seen once it has the focus"
        await page.press("Enter")
        assert await page.value("document.activeElement.matches('main')")
    page.assert_clean(stage.origin)


async def test_everything_can_be_done_by_keys(stage: Stage, page: Page) -> None:
    await show(page, stage, "chart")

    async def width_ms() -> int:
        found: int = await page.value(f"{SHOWN}.range.to - {SHOWN}.range.from")
        return found

    before_ms = await width_ms()
    await page.press("+", 3)
    await page.until(f"{SHOWN}.range.to - {SHOWN}.range.from < {before_ms * 0.6}", "each press zooms")
    from_ms = await page.value(f"{SHOWN}.range.from")
    await page.press("ArrowLeft", 3)
    await page.until(f"{SHOWN}.range.from < {from_ms}", "the view moves")
    await page.press("]", 2)
    await page.until(f"{SHOWN}.interval === '5m' && {HAS_BARS}", "another interval is shown")
    await focus(page, "fieldset:last-of-type button:nth-of-type(3)")
    await page.press("Enter")
    await page.until(f"{SHOWN}.panes.taker !== undefined", "a pane is chosen")
    await page.press("/")
    await page.type("eth")
    await page.until("document.querySelectorAll('.search li[id]').length > 0", "there are matches")
    await page.press("Escape")
    assert await page.value("document.querySelector('.search ul').hidden && document.activeElement === document.body")
    await page.press("?")
    assert "Zoom in" in await text(page, "dialog")
    await page.press("Escape")
    await page.until("document.querySelector('dialog') === null", "Escape closes the list")
    theme = await page.value("document.documentElement.dataset.theme")
    await page.press("t")
    assert await page.value("document.documentElement.dataset.theme") != theme
    await focus(page, "header button:last-child")
    await page.press("Enter")
    assert await page.value("document.documentElement.lang") == "zh-CN"
    assert await page.value("document.activeElement.textContent") == "English", "the focus stays on the button"
    await page.until(HAS_BARS, "the chart is shown in Chinese")
    await page.press("l")
    await page.press("t")
    page.assert_clean(stage.origin)


async def test_an_action_says_when_its_token_is_refused_and_keeps_it_nowhere(stage: Stage, page: Page) -> None:
    await show(page, stage, "overview")
    await focus(page, ".page .row button")
    await page.press("Enter")
    await focus(page, "#token")
    await page.type("another-token-that-is-wrong")
    await page.press("Enter")
    await page.until("document.querySelector('dialog .fault').textContent.startsWith('Not done')", "it is refused")
    kept = await page.value("document.querySelector('#token').value + location.href + JSON.stringify(localStorage)")
    assert "another-token" not in kept
    await page.press("Escape")
    await page.until("document.activeElement.matches('.page .row button')", "Escape closes the dialog")
    assert [each for each in page.errors if "401" not in each] == []
    page.errors.clear()


@pytest.mark.skipif(not AXE.exists(), reason="axe is not installed (make web)")
async def test_axe_finds_nothing_serious_on_any_page(stage: Stage, page: Page) -> None:
    await show(page, stage, "overview")
    await page.value(f"{AXE.read_text()};document.body.prepend(document.createElement('img'))")
    assert [found["id"] for found in await serious(page)] == ["image-alt"], "axe would find it"
    await page.value("document.querySelector('body > img').remove()")
    for number, (name, is_ready) in enumerate(READY.items(), 1):
        await page.press(str(number))
        await page.until(is_ready, f"{name} is shown")
        for size in ((1280, 900), (390, 844)):
            await page.resize(*size)
            assert await serious(page) == [], (name, size)
            await page.press("t")
            assert await serious(page, COLOURS) == [], (name, size, "in the other colours")
            assert await page.value("document.documentElement.scrollWidth") <= size[0]
    page.assert_clean(stage.origin)


async def serious(page: Page, rules: str = "undefined") -> list[dict[str, Any]]:
    """What axe finds that is serious or critical, by all its rules or by some."""
    found: list[dict[str, Any]] = await page.value(
        f"axe.run({{resultTypes: ['violations'], runOnly: {rules}}})"
        ".then(({violations}) => violations"
        ".filter(({impact}) => ['serious', 'critical'].includes(impact))"
        ".map(({id, nodes}) => ({id, at: nodes.map((each) => each.target.join(' '))})))"
    )
    return found
