"""Telemetry: every event can be logged and measured, and a backfill does not flood the log."""

import orjson
import pytest
from prometheus_client import generate_latest

from app import collector_events, events
from app.collector_events import COLLECTOR_EVENTS
from app.domain.ledger import Source
from app.domain.span import Span
from app.events import Event, GapsCounted
from app.metric import Counter, Gauge, Histogram
from infra.telemetry import Telemetry

EVENTS: list[Event] = [
    events.SymbolsSynced(2, ("BTCUSDT",), ()),
    events.SymbolsUnlisted(("BTCUSTD",)),
    events.Relisted("LITUSDT", 1_766_511_000_000),
    events.Reprinted("LITUSDT"),
    events.RelistingRefuted("LITUSDT", 1_766_511_000_000),
    events.RequestDone("/fapi/v1/klines", 200, 2, 77, 0.1),
    events.RequestDone("/fapi/v1/klines", 0, 2, None, 0.1),
    events.StandDownBegan(1_800_000_000_000, "banned"),
    events.ExchangeSilent(5, "time: ConnectError"),
    events.ExchangeAnswers(),
    events.SharedCacheLost("ConnectionError: Error 111"),
    events.SharedCacheAnswers(),
    events.TracesBegan("http://127.0.0.1:4318/v1/traces"),
    events.TracesFailed("the packages that send them are not installed"),
    events.TracesLost("Failed to export spans batch code: 401", "http://127.0.0.1:4318/v1/traces"),
    events.TracesResumed(512),
    events.SpansLost(512),
    events.RateStateNotShared("k.db.weight", "the disk is full"),
    events.SocketOpened("0", 200),
    events.SocketLost("0", "silent"),
    events.SocketHandedOver("0", "slow"),
    events.KlineDisputed("BTCUSDT", 0, Source.WS),
    events.DisputeSettled("BTCUSDT", 0),
    events.FramesReceived(100, 3, 0),
    events.GarbageDropped("klines BTCUSDT 1m", "no rows"),
    events.KlineClosed("BTCUSDT", 420),
    events.RowsCommitted("BTCUSDT", "1m", Source.REST, 499, Span(0, 1), 1),
    events.RowsSealed("BTCUSDT", "1m", 1440, 50_000),
    events.SealingProgress(3, 4200, 100_000),
    events.BlocksChecked(64),
    events.BlockGivenUp("BTCUSDT", "1m", Span(0, 1), "its rows have another SHA-256"),
    events.CommitFailed(3, "locked"),
    events.StoreFailed("the disk is full"),
    events.StoreRecovered(),
    events.ExportEnded("done", 1_440, 30_000, 0.4),
    events.ArchiveRejected("BTCUSDT-1m-2026-10", "published", "404", "REST is asked"),
    events.ArchiveJoined("BTCUSDT", "openInterestHist", 576, 1),
    events.RestFormChanged("BTCUSDT", "openInterestHist.sum_open_interest", "8 decimals, down", "3 decimals, down"),
    events.MetricsFilesRead("BTCUSDT", 5, 0, 1440, 0, 2, 1, 3, 0),
    events.MetricsFilesProgress(3, 7_800, "BTCUSDT", 1_738_108_800_000),
    events.UnpackerLost("BTCUSDT-1m-2026-10", "killed"),
    events.KlinesVerified("BTCUSDT", "1m", 30),
    events.KlinesMended("BTCUSDT", "1m", 1),
    events.IntervalsDisagree("BTCUSDT", "1m", "1d", 1_738_108_800_000),
    events.GapsCounted(5, 1, 100),
    events.BackfillPaused("disk"),
    events.BackfillResumed(),
    events.TaskEnded("write", "ValueError: broken", 1.5, 1, ValueError("broken")),
    events.TaskEnded("ingest", "ended", 1.5, 1),
    events.WishEstimated(1, 2, 3, 4, 5, 6, 7, 8, 9, "about 6 bytes", None),
    events.SymbolsReplaced(("BTCUSDT",), 600, "AUTO_SYNC_SYMBOLS=false"),
    events.LeaseChanged(is_writer=True, holder="http://127.0.0.1:8000"),
    events.LineFailed("no Unix sockets here"),
    events.RequestsRefused({400: 12, 503: 1}),
    events.ApiKeysRead(3),
    events.ApiKeysRefused("line 3 has 2 words"),
    events.QuotasNotShared("k.db.quotas", "the disk is full"),
    events.ReplicaAway("it does not answer"),
    events.ReplicaUsed(),
    events.StoreLinked("pysqlite3", "3.53.4"),
    events.StoreLibraryFaulty("SQLite 3.40.1 may lose commits"),
    events.NodeStarted("http://127.0.0.1:8000", "sqlite:///x", "https://fapi.binance.com"),
    events.NodeReady("http://127.0.0.1:8000", 7),
    events.NodeStopped("asked to"),
    collector_events.GapAnnounced("okx", "BTC-USDT", "swap", "trade", "open", "reset", 1_000, 2_000, 7, 9),
    collector_events.VenueSocketLost("okx", "/ws/v5/public", "no close frame received"),
    collector_events.FeedsChanged("okx", "BTC-USDT", ("swap/BTC-USDT/trade",), (), 1),
    collector_events.CollectorFaultBegan("okx", "okx: no socket"),
    collector_events.CollectorFaultEnded("okx", "okx: no socket", 1_500),
    collector_events.CollectConfigRead(("okx",), 3),
    collector_events.BookUnequal("binance", "BTC-USDT", "swap", 2_000, 1_998),
    collector_events.SpillingBegan("NATS is not connected"),
    collector_events.SpillingEnded(),
    collector_events.SpillDamaged("segment 3 ends in the middle of a message"),
    collector_events.RecordsRefused(7, "the spill has reached 2048 bytes"),
    collector_events.LedgerNotWritten("ledger.json: No space left on device"),
    collector_events.CollectConfigRefused("line 3: 'depth' is no type of data"),
    collector_events.RestartNeeded(("NATS_URL",)),
    collector_events.SpillingBegan("NATS is not connected yet"),
    collector_events.SpillingEnded(),
    collector_events.SpillDamaged("trades/00000001: its checksum differs"),
    collector_events.RecordsRefused(3, "the spill is full"),
    collector_events.LedgerNotWritten("ledger.json: No space left on device"),
]


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in capsys.readouterr().err.splitlines()]


def metrics_of(telemetry: Telemetry) -> str:
    return generate_latest(telemetry.registry).decode()


def test_every_event_there_is_can_be_logged_and_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert {type(event) for event in EVENTS} == {*events.EVENTS, *COLLECTOR_EVENTS}, "an event without an example here"
    seen: list[Event] = []
    telemetry = Telemetry("DEBUG", [seen.append])
    for event in EVENTS:
        telemetry.observe(event)
    lines = lines_of(capsys)
    assert [line["event"] for line in lines] == [type(event).__name__ for event in EVENTS]
    assert all({"level", "timestamp"} <= set(line) for line in lines)
    assert seen == EVENTS
    gap = next(line for line in lines if line["event"] == "GapAnnounced")
    assert (gap["exchange"], gap["symbol"]) == ("okx", "BTC-USDT")
    crash = next(line for line in lines if line.get("name") == "write")
    assert "ValueError: broken" in str(crash["exception"])
    assert metrics_of(telemetry)


def test_metrics_say_what_happened() -> None:
    telemetry = Telemetry("ERROR")
    for event in EVENTS:
        telemetry.observe(event)
    text = metrics_of(telemetry)
    for line in (
        'klinenode_upstream_requests_total{status="200"} 1.0',
        'klinenode_upstream_requests_total{status="0"} 1.0',
        "klinenode_upstream_request_seconds_count 2.0",
        "klinenode_upstream_weight_used 77.0",
        "klinenode_frames_total 100.0",
        "klinenode_closed_frames_total 3.0",
        'klinenode_rows_written_total{interval="1m",source="rest"} 499.0',
        "klinenode_rows_revised_total 1.0",
        "klinenode_klines_missing 5.0",
        "klinenode_klines_wished 100.0",
        "klinenode_gaps 1.0",
        'klinenode_garbage_total{where="klines"} 1.0',
        'klinenode_task_restarts_total{task="write"} 1.0',
        "klinenode_commits_failed_total 1.0",
        "klinenode_sockets_lost_total 1.0",
        "klinenode_socket_handovers_total 1.0",
        "klinenode_klines_disputed_total 1.0",
        "klinenode_disputes_settled_total 1.0",
        'klinenode_collect_gaps_total{exchange="okx",state="open",type="trade"} 1.0',
        'klinenode_collect_faults_total{exchange="okx"} 1.0',
    ):
        assert line in text.splitlines(), line


def test_no_created_series_double_the_metrics() -> None:
    telemetry = Telemetry("ERROR")
    for event in EVENTS:
        telemetry.observe(event)
    assert "_created" not in metrics_of(telemetry)


def test_sampled_gauges_are_read_on_scrape() -> None:
    telemetry = Telemetry("ERROR")
    depth = [3.0]
    telemetry.sample(Gauge("klinenode_depth", "Depth."), lambda: [({"queue": "write"}, depth[0])])
    telemetry.sample(Gauge("klinenode_nothing", "Nothing yet."), list)
    assert 'klinenode_depth{queue="write"} 3.0' in metrics_of(telemetry)
    depth[0] = 4.0
    assert 'klinenode_depth{queue="write"} 4.0' in metrics_of(telemetry)


def test_what_only_grows_and_ends_in_total_is_exposed_as_a_counter() -> None:
    telemetry = Telemetry("ERROR")
    telemetry.sample(Counter("klinenode_sent_total", "Sent."), lambda: [({"to": "one"}, 3)])
    telemetry.sample(Counter("klinenode_cut", "Cut."), lambda: [({}, 4)])
    text = metrics_of(telemetry)
    assert '# TYPE klinenode_sent_total counter\nklinenode_sent_total{to="one"} 3.0\n' in text
    assert "# TYPE klinenode_cut gauge\nklinenode_cut 4.0\n" in text, "a name that is scraped stays"


def test_the_weight_stays_when_an_answer_does_not_say_it() -> None:
    telemetry = Telemetry("ERROR")
    telemetry.observe(events.RequestDone("/fapi/v1/klines", 200, 2, 77, 0.1))
    telemetry.observe(events.RequestDone("/fapi/v1/klines", 0, 2, None, 0.1))
    assert "klinenode_upstream_weight_used 77.0\n" in metrics_of(telemetry)


def test_sampled_histograms_are_read_on_scrape_and_cumulative() -> None:
    telemetry = Telemetry("ERROR")
    counts = [2, 0, 1]
    lag = Histogram("klinenode_lag", "Lag.", bounds=(0.5, 1.0))
    telemetry.sample_histogram(lag, lambda: [({"interval": "1m"}, counts, 3.5)])
    telemetry.sample_histogram(Histogram("klinenode_none", "Nothing yet.", bounds=(1.0,)), list)
    counts[1] = 4
    text = metrics_of(telemetry).splitlines()
    for line in (
        'klinenode_lag_bucket{interval="1m",le="0.5"} 2.0',
        'klinenode_lag_bucket{interval="1m",le="1.0"} 6.0',
        'klinenode_lag_bucket{interval="1m",le="+Inf"} 7.0',
        'klinenode_lag_count{interval="1m"} 7.0',
        'klinenode_lag_sum{interval="1m"} 3.5',
    ):
        assert line in text, line


def test_two_nodes_in_one_process_do_not_share_their_metrics() -> None:
    one, other = Telemetry("ERROR"), Telemetry("ERROR")
    one.observe(events.FramesReceived(100, 3, 0))
    assert "klinenode_frames_total 0.0" in metrics_of(other)


def test_the_log_level_is_respected(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = Telemetry("WARNING")
    for event in EVENTS:
        telemetry.observe(event)
    assert {line["level"] for line in lines_of(capsys)} == {"warning", "error"}


def told(capsys: pytest.CaptureFixture[str], *missing: int, wished: int = 1000) -> list[object]:
    """Report gap counts of `missing`; return those that were logged at INFO."""
    telemetry = Telemetry("INFO")
    for each in missing:
        telemetry.observe(GapsCounted(each, min(each, 1), wished))
    assert f"klinenode_klines_missing {float(missing[-1])}" in metrics_of(telemetry), "the metric has every count"
    return [line["missing_klines"] for line in lines_of(capsys)]


def test_gaps_are_logged_when_they_moved_by_a_twentieth_of_the_wish(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, *range(1000, -1, -1)) == [*range(1000, 0, -50), 0]


def test_gaps_that_reach_zero_are_logged_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, 7, 0, 0, 0) == [7, 0]


def test_the_minutes_that_come_and_go_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, 0, 3, 0, 2, 0, 49, 0) == [0]


def test_a_sudden_loss_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, 0, 50, 0) == [0, 50, 0]


def test_an_empty_wish_is_logged_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, 0, 0, 0, wished=0) == [0]
