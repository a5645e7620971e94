"""Market data beside klines: equal questions share one request, and answers are cached while they are valid."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.http import market_pages
from app.http.market_pages import PAGE_SHARE_MAX, Kept, MarketPages
from app.market.endpoints import Question
from app.market.market_source import Fetched
from tests.http.fakes import NOW_MS, ManualClock, Node
from tests.http.market import DEPTH


async def test_an_answer_is_given_to_all_for_as_long_as_it_holds_and_no_longer(node: Node) -> None:
    node.market.fresh_ms = node.market.thrifty_ms = 250
    async with node.client() as client:
        for passed_ms, asked in ((0, 1), (249, 1), (250, 2), (499, 2), (500, 3)):
            node.clock.ms = NOW_MS + passed_ms
            assert (await client.get(DEPTH)).content == node.market.body
            assert len(node.market.asked) == asked


async def test_a_clock_that_is_put_back_keeps_nothing_alive(node: Node) -> None:
    async with node.client() as client:
        await client.get(DEPTH)
        node.clock.ms -= 1
        await client.get(DEPTH)
    assert len(node.market.asked) == 2


async def test_while_weight_is_short_an_answer_counts_for_longer(node: Node) -> None:
    node.market.fresh_ms, node.market.thrifty_ms = 250, 2_000
    async with node.client() as client:
        await client.get(DEPTH)
        node.clock.ms += 1_999
        node.is_weight_short = True
        await client.get(DEPTH)
        assert len(node.market.asked) == 1
        node.is_weight_short = False
        await client.get(DEPTH)
        assert len(node.market.asked) == 2
        node.clock.ms += 2_000
        node.is_weight_short = True
        await client.get(DEPTH)
        assert len(node.market.asked) == 3


async def test_five_hundred_callers_ask_once(node: Node) -> None:
    gate = asyncio.Event()
    node.market.meanwhile = gate.wait
    async with node.client() as client, asyncio.TaskGroup() as tasks:
        callers = [tasks.create_task(client.get(DEPTH)) for _ in range(500)]
        await node.market.until_asked(1)
        gate.set()
    assert {(task.result().status_code, task.result().content) for task in callers} == {(200, node.market.body)}
    assert len(node.market.asked) == 1


async def test_one_caller_who_goes_away_takes_nobodys_answer_along(node: Node) -> None:
    gate, body = asyncio.Event(), Question("/fapi/v1/depth", ())

    async def fetch(_question: Question) -> Fetched:
        await gate.wait()
        return Fetched(200, b"[]", 1_000, 1_000)

    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(node.market_pages.answer(body, fetch))
        others = [tasks.create_task(node.market_pages.answer(body, fetch)) for _ in range(3)]
        await asyncio.sleep(0)  # noqa: TID251  lets the tasks ask
        first.cancel()
        await asyncio.sleep(0)  # noqa: TID251  lets it be cancelled
        gate.set()
    assert [task.result().page.body for task in others] == [b"[]"] * 3


async def test_questions_under_way_are_bounded(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(market_pages, "QUESTIONS_MAX", 2)
    node = Node()
    node.symbols.info = b"{}"
    gate = asyncio.Event()
    node.market.meanwhile = gate.wait
    async with node.client() as client, asyncio.TaskGroup() as tasks:
        for limit in (5, 10):
            tasks.create_task(client.get(f"{DEPTH}&limit={limit}"))
        await node.market.until_asked(2)
        refused = await client.get(f"{DEPTH}&limit=20")
        gate.set()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 4_000), st.booleans(), st.integers(0, 3_000)),
        min_size=1, max_size=80,
    )
)  # fmt: skip
async def test_what_is_kept_is_bounded_true_and_weighed_with_its_gzip_variant(
    asks: list[tuple[int, int, bool, int]],
) -> None:
    clock = ManualClock()
    pages = MarketPages(clock, lambda: False, 40_000)
    model: dict[Question, tuple[bytes, int]] = {}
    for number, size, is_packed, passed_ms in asks:
        clock.ms += passed_ms
        question, body = Question("/fapi/v1/depth", (("limit", str(number)),)), b"%d" % number * size

        async def fetch(asked: Question, body: bytes = body) -> Fetched:
            model[asked] = (body, clock.ms + 2_000)
            return Fetched(200, body, 2_000, 2_000)

        kept = await pages.answer(question, fetch)
        assert kept.page.body == model[question][0]
        assert clock.ms < model[question][1]
        if is_packed:
            headers = [(b"accept-encoding", b"gzip")]
            kept.response({"type": "http", "method": "GET", "path": "/", "headers": headers}, clock.ms)
            pages.weigh(question, kept)
        assert pages.bytes <= 40_000
        assert pages.bytes == sum(each.cost() for each in pages._entries.values())
        assert all(each.cost() <= 40_000 // PAGE_SHARE_MAX for each in pages._entries.values())


def test_an_entry_costs_more_than_its_body() -> None:
    question = Question("/fapi/v1/depth", (("symbol", "BTCUSDT"),))
    assert Kept(question, Fetched(200, b"x" * 100, 1, 1), 0).cost() > 100 + len("symbolBTCUSDT")
