"""`klinenode collect` as real processes: a sandbox of three exchanges, a real NATS server, and plain nats-py."""

import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from app.collecting.ledger import SequenceLedger
from app.domain.gap_reason import GapReason
from app.domain.instrument import Instrument, Market
from app.domain.records import DataType, Feed, Gap, GapState
from app.node.collector import LEDGER_FILE
from app.node.collector_gauges import METRICS
from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from tests.nats.jetstream import call
from tests.nats.jetstream import read as messages
from tests.nats_server import NatsServer
from tests.patience import PATIENCE_S
from tests.system.collect_place import EXCHANGES, SYMBOLS, TYPES, CollectPlace
from tests.system.collected import connected, hearing, read
from tests.system.exchange_truth import Truth
from tests.system.processes import END_S_MAX, Place, Program, Programs, free_port, until

SUBJECTS = {f"market.{name}.{SYMBOLS[name]}.{each}" for name in EXCHANGES for each in TYPES}
SOL = "market.okx.SOL-USDT.trade"
BTC = "market.okx.BTC-USDT.trade"
ETH_GAP = "market.okx.ETH-USDT.gap"
FILE = {"exchanges": {name: {SYMBOLS[name]: list(TYPES)} for name in EXCHANGES}}


@dataclass
class World:
    """What the tests of this file share: all processes of one collector, which is running."""

    place: CollectPlace
    nats: NatsServer
    collector: Program

    @property
    def file(self) -> Path:
        """COLLECT_CONFIG."""
        return self.place.programs.folder / "services.json"

    async def is_up(self) -> bool:
        return (await self.place.get("/v1/health")).status_code == 200


def ledger_of_a_former_run() -> str:
    """The ledger of a run that followed a ticker which nobody wishes any more, and was killed while a gap was open."""
    ledger = SequenceLedger()
    feed = Feed(Instrument("okx", Market.SWAP, "ETH-USDT", "ETH-USDT-SWAP"), DataType.TICKER)
    ledger.announce(Gap(feed, GapState.OPEN, GapReason.DISCONNECTED, 1_000, 2_000, 2_000))
    return ledger.to_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("collector")


@pytest.fixture(scope="module")
def world(folder: Path) -> Iterator[World]:
    programs = Programs(folder)
    try:
        with NatsServer(folder) as nats:
            sandbox_port = free_port()
            programs.start("sandbox", "--port", str(sandbox_port), "--symbols", "3")
            file = folder / "services.json"
            file.write_text(json.dumps(FILE))
            place = CollectPlace(programs, sandbox_port, nats.url, settings={"COLLECT_CONFIG": str(file)})
            place.folder.mkdir()
            (place.folder / LEDGER_FILE).write_text(ledger_of_a_former_run())
            yield World(place, nats, place.collect())
    finally:
        programs.end()


@pytest_asyncio.fixture
async def running(world: World) -> World:
    if world.collector.process.poll() is not None:
        world.collector = world.place.collect()
    await until(world.is_up, "the collector answers")
    await world.place.well()
    return world


async def test_every_type_of_three_exchanges_is_on_its_subject(running: World) -> None:
    async def all_subjects() -> bool:
        return set((await read(running.nats.url)).messages) >= SUBJECTS  # open interest comes once in a while

    await until(all_subjects, "every subject has messages")
    [gap] = [body for subject, _, body in await messages(running.nats.url, "MARKET_SERIES") if subject == ETH_GAP]
    assert (gap["data_type"], gap["state"], gap["reason"]) == ("ticker", "abandoned", "unsubscribed")
    async with hearing(running.nats.url) as heard:
        await heard.until_subjects({BTC, "market.binance.BTC-USDT.orderbook", "market.deribit.BTC-USD.ticker"})
    for subject, body in heard.messages:
        assert subject.startswith(f"market.{body['exchange_name']}.{body['symbol']}."), subject
        assert body["market"] == "swap"


async def test_it_is_found_as_a_service_and_has_the_promised_metrics(running: World) -> None:
    async with connected(running.nats.url) as client:
        pong = json.loads((await client.request("$SRV.PING", b"", PATIENCE_S)).data)
        status = json.loads((await client.request("klinenode.collector.status", b"", PATIENCE_S)).data)
    assert pong["name"] == "klinenode-collector"
    assert set(status["exchanges"]) == set(EXCHANGES)
    text = (await running.place.get("/metrics")).text
    for declared in METRICS:
        assert f"# TYPE {declared.name} " in text, declared.name
    for line in ('messages_published_total{exchange="okx",type="trade"}', 'exchange_connections_active{exchange="'):
        assert line in text
    assert "uptime_seconds " in text


async def test_a_request_has_its_effect_at_once_and_after_a_kill(running: World) -> None:
    place = running.place
    async with hearing(running.nats.url) as heard:
        answer = await place.ask("okx", "subscribe", "SOL-USDT", "trade")
        assert (answer.status_code, answer.json()["added"]) == (200, ["swap/SOL-USDT/trade"])
        await heard.until_subjects({SOL})
        running.collector.kill()
        running.collector = place.collect()
        await heard.until_more(SOL, 2)
        await until(place.is_whole, "what came while nothing ran is there")
        answer = await place.ask("okx", "unsubscribe", "SOL-USDT", "trade")
        assert answer.json()["removed"] == ["swap/SOL-USDT/trade"]
        await heard.until_more(BTC, 4)  # what was under way has come
        assert SOL not in await heard.until_more(BTC, 8)
    assert "swap/SOL-USDT/trade" not in (await place.get("/api/v1/exchanges/okx/stats")).json()["followed"]


@pytest.mark.parametrize(
    ("exchange", "symbol", "data_type", "status", "words"),
    [
        ("kraken", "BTC-USDT", "trade", 404, "binance, okx, deribit"),
        ("okx", "BTC-USDX", "trade", 400, "BTC-USDT"),
        ("okx", "BTC-USDT", "trades", 400, "trade"),
        ("okx", "BTC-USDT", "kline.7m", 400, "kline"),
    ],
)
async def test_an_unknown_name_is_refused_with_a_sentence(
    running: World, exchange: str, symbol: str, data_type: str, status: int, words: str
) -> None:
    answer = await running.place.ask(exchange, "subscribe", symbol, data_type)
    assert answer.status_code == status, answer.text
    assert words in answer.text


async def test_a_request_without_the_token_is_refused(running: World) -> None:
    async with running.place.http() as client:
        body = {"action": "subscribe", "symbols": ["SOL-USDT"], "data_types": ["trade"]}
        assert (await client.post("/api/v1/exchanges/okx/subscribe", json=body)).status_code == 401


async def test_a_changed_file_and_a_signal_have_their_effect(running: World) -> None:
    eth = "market.deribit.ETH-USD.trade"
    async with hearing(running.nats.url) as heard:
        exchanges = FILE["exchanges"]
        more = {**exchanges, "deribit": {**exchanges["deribit"], "ETH-USD": ["trade"]}}
        running.file.write_text(json.dumps({"exchanges": more}))
        await heard.until_subjects({eth})
    before = len(running.collector.events("CollectConfigRead"))
    running.collector.signal(signal.SIGHUP)

    async def is_read() -> bool:
        return len(running.collector.events("CollectConfigRead")) > before

    await until(is_read, "the settings are read again on SIGHUP")
    running.file.write_text('{"exchanges": {"okx": {"BTC-USDT": ["depth"]}}}')
    assert "depth" in await running.place.faulty("not in force")
    running.file.write_text(json.dumps(FILE))
    await running.place.well()


async def test_a_revoked_permission_and_a_closed_connection_are_in_the_health_until_they_are_over(
    running: World,
) -> None:
    place, nats = running.place, running.nats
    nats.denied = ("market.*.*.trade",)
    nats.reload()
    assert "market." in await place.faulty("ermission")
    nats.denied = ()
    nats.reload()
    await place.well()
    nats.password = "changed"
    nats.reload()
    await place.faulty("uthorization")
    nats.password = "first"
    nats.reload()
    await place.well()
    async with hearing(nats.url) as heard:
        await heard.until_subjects({BTC})
    await until(place.is_whole, "what was on the disk is published")


async def test_the_limits_of_a_stream_and_of_the_server_are_in_the_health_until_they_are_lifted(running: World) -> None:
    place, nats = running.place, running.nats
    limits = {"max_msgs": -1, "max_msg_size": -1, "discard": "new"}
    config = (await call(nats.url, "STREAM.INFO.MARKET_TRADES"))["config"]
    for limit, words in (
        ({"max_msgs": 1}, "max_msgs"),
        ({"max_bytes": 1}, "NATS_STREAM_BYTES_MAX"),
        ({"max_msg_size": 10}, "max_msg_size"),
    ):
        await call(nats.url, "STREAM.UPDATE.MARKET_TRADES", config | limits | limit)
        assert "market." in await place.faulty(words)
    await call(nats.url, "STREAM.UPDATE.MARKET_TRADES", config)
    await place.well()
    nats.restart(max_payload=64 * 1024)
    assert "1048576" in await place.faulty("max_payload")
    nats.restart()
    await place.well()
    async with hearing(nats.url) as heard:
        await heard.until_subjects({BTC})
    await until(place.is_whole, "what was on the disk is published")


async def test_a_second_collector_of_the_folder_is_refused(running: World) -> None:
    env = running.place.env | {"PORT": str(free_port())}
    status, said = await running.place.programs.run("collect", env=env)
    assert status != 0
    assert "COLLECT_DIR" in said
    assert "a collector runs already" in said
    assert "Traceback" not in said


async def test_kills_of_either_side_before_and_now_lose_and_double_nothing(running: World) -> None:
    place, truth = running.place, Truth(running.place.sandbox_port)
    running.nats.kill()
    await place.faulty("NATS")

    async def is_spilling() -> bool:
        return bool((await place.status())["outbox"]["spilled_bytes"])

    await until(is_spilling, "trades are on the disk")
    running.collector.kill()
    running.collector = place.collect()
    await until(running.is_up, "the collector answers without NATS")
    running.nats.start()
    await place.well()
    async with hearing(running.nats.url) as heard:
        await heard.until_more(BTC, 4)
        await heard.until_subjects(f"market.{name}.{SYMBOLS[name]}.trade" for name in EXCHANGES)
    await until(place.is_whole, "every gap is closed and the spill is empty")
    running.collector.signal(signal.SIGTERM)
    assert await running.collector.ended(END_S_MAX) == 0
    assert "Traceback" not in running.collector.said()
    collected = await read(running.nats.url)
    verdict = await truth.compare(collected)
    await truth.aclose()
    print(f"MEASURED collector: {verdict.trades} trades, {collected.repeated} dropped by the rule, {verdict}"[:300])
    assert not verdict.faults, "\n".join(verdict.faults[:20])
    assert (verdict.lost, verdict.wrong, verdict.in_gaps) == (0, 0, 0)
    assert len(collected.trades) >= len(EXCHANGES)
    assert verdict.books > len(EXCHANGES)
    assert {source.exchange for source in collected.forecasts} == set(EXCHANGES)
    assert {source.exchange for source in collected.interests} == set(EXCHANGES)


@asynccontextmanager
async def node(folder: Path, nats: NatsServer) -> AsyncIterator[tuple[Place, CollectPlace, Program]]:
    """A node with a collector."""
    async with SandboxServer(SystemClock(), symbols=1) as sandbox, Programs(folder) as programs:
        collector = CollectPlace(programs, sandbox.port, nats.url)
        collector.settings |= {"EXCHANGES": "okx", "COLLECT_SYMBOLS": "BTC-USDT", "COLLECT_TYPES": "trade"}
        place = Place(programs, sandbox.port, port=collector.port, settings={"INTERVALS": "1m"})
        place.settings |= {name: value for name, value in collector.env.items() if not name.startswith("BINANCE_")}
        served = place.serve()
        await until(place.is_up, "the node answers")
        yield place, collector, served


async def test_a_node_serves_klines_while_its_collector_lacks_nats_and_a_full_stream_recovers(tmp_path: Path) -> None:
    nats = NatsServer(tmp_path, store_bytes_max=32 * 1024**2)  # less than the streams are planned for
    with nats:
        nats.kill()
        async with node(tmp_path, nats) as (place, collector, served):

            async def are_served() -> bool:
                answer = await place.get("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=5")
                return answer.status_code == 200 and len(answer.json()) == 5

            await until(are_served, "klines are served without NATS")
            await collector.faulty("NATS")
            assert (await place.health())["status"] == "degraded"
            assert set((await collector.status())["exchanges"]) == {"okx"}
            nats.start()
            assert "NATS_STREAM_BYTES_MAX" in await collector.faulty("does not take the stream")
            nats.kill()
            nats.make_room()
            nats.start()

            async def is_over() -> bool:
                return not any(each.startswith("collector:") for each in await collector.reasons())

            await until(is_over, "the collector is well when there is room")
            async with hearing(nats.url) as heard:
                await heard.until_subjects({BTC})
            before = len(served.events("CollectConfigRead"))
            served.signal(signal.SIGHUP)

            async def is_read() -> bool:
                return len(served.events("CollectConfigRead")) > before

            await until(is_read, "the settings are read again on SIGHUP")
