"""One server, several workers, one set of numbers: whoever is scraped, they add up and what grows never falls."""

import os
import shutil
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app import events
from app.domain.ledger import Source
from app.domain.span import Span
from app.metric import IS_WRITER, Counter, Histogram
from app.node import gauges
from infra.local import shared_metrics
from infra.local.metrics_folder import MetricsFolder
from infra.telemetry import Telemetry

FRAMES = "klinenode_frames_total"
SAMPLED = {each.name: each for each in gauges.METRICS if not isinstance(each, Histogram)}
COUNTERS = [Counter("klinenode_sampled_total", ""), *(each for each in SAMPLED.values() if isinstance(each, Counter))]


class Worker:
    """One process of a server, as far as metrics go."""

    def __init__(self, folder: Path, *, is_writer: bool = False) -> None:
        self.telemetry = Telemetry("ERROR")
        self.telemetry.share_in(folder)
        self.is_writer = is_writer
        self.hits = self.rows = self.disk_free = self.wal = 0
        sample = self.telemetry.sample
        sample(IS_WRITER, lambda: [({}, float(self.is_writer))])
        sample(SAMPLED["klinenode_page_cache_hits"], lambda: [({}, self.hits)])
        sample(SAMPLED["klinenode_tail_rows"], lambda: [({}, self.rows)])
        sample(SAMPLED["klinenode_disk_free_bytes"], lambda: [({}, self.disk_free)])
        sample(SAMPLED["klinenode_wal_bytes"], lambda: [({}, self.wal)])
        self.telemetry.sample_histogram(
            Histogram("klinenode_close_lag_seconds", "", bounds=(1.0, 2.0)),
            lambda: [({"interval": "1m"}, [self.rows, 1, 0], 0.5)],
        )

    def frames(self, number: int) -> None:
        self.telemetry.observe(events.FramesReceived(number, 0, 0))

    def gaps(self, missing: int) -> None:
        self.telemetry.observe(events.GapsCounted(missing, 1, 100))

    def die(self) -> None:
        """The kernel closes what a dead process had open."""
        shared = self.telemetry._shared
        assert shared is not None
        assert shared._life is not None
        os.close(shared._life)

    def scraped(self) -> dict[str, float]:
        text = self.telemetry.exposition().decode()
        return {
            sample.name + "".join(f"|{value}" for value in sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


def test_counters_and_histograms_add_up_whoever_is_asked(tmp_path: Path) -> None:
    one, two = Worker(tmp_path), Worker(tmp_path, is_writer=True)
    one.frames(5)
    two.frames(7)
    one.rows, two.rows, one.hits, two.hits = 2, 3, 10, 20
    one.telemetry.observe(events.RowsCommitted("BTCUSDT", "1m", Source.WS, 4, Span(0, 1), 0))
    for worker in (one, two):
        worker.telemetry.share()
    for worker in (one, two):
        found = worker.scraped()
        assert found[FRAMES] == 12
        assert found["klinenode_rows_written_total|1m|ws"] == 4
        assert found["klinenode_close_lag_seconds_bucket|1m|1.0"] == 5
        assert found["klinenode_close_lag_seconds_count|1m"] == 7
        assert (found["klinenode_tail_rows"], found["klinenode_page_cache_hits"]) == (5, 30)
        assert found["klinenode_is_writer"] == 1


def test_what_grows_does_not_fall_when_a_worker_dies_and_another_takes_its_place(tmp_path: Path) -> None:
    one, two = Worker(tmp_path), Worker(tmp_path)
    one.frames(5)
    two.frames(7)
    one.hits = two.rows = 3
    before = [worker.scraped() for worker in (one, two)][-1]
    one.die()
    after = two.scraped()
    assert (before[FRAMES], after[FRAMES]) == (12, 12)
    assert after["klinenode_page_cache_hits"] == 3
    again = Worker(tmp_path)
    again.frames(1)
    assert (again.scraped()[FRAMES], two.scraped()[FRAMES]) == (13, 13)
    two.die()
    assert again.scraped()[FRAMES] == 13
    assert again.scraped()["klinenode_tail_rows"] == 0, "what the dead kept is free again"
    assert len(list(tmp_path.glob("*.metrics"))) == 1, "their files do not pile up"


@pytest.mark.parametrize("counter", COUNTERS, ids=lambda counter: counter.name)
def test_a_sampled_counter_adds_up_and_outlives_its_worker(tmp_path: Path, counter: Counter) -> None:
    one, two = Worker(tmp_path), Worker(tmp_path)
    one.telemetry.sample(counter, lambda: [({"status": "503"}, 5)])
    two.telemetry.sample(counter, lambda: [({"status": "503"}, 7), ({"status": "400"}, 1)])
    one.telemetry.share()
    before = two.scraped()
    one.die()
    after = [two.scraped() for _ in range(2)]
    for found in (before, *after):
        assert (found[f"{counter.name}|503"], found[f"{counter.name}|400"]) == (12, 1)
    assert f"# TYPE {counter.name} {counter.type}\n" in two.telemetry.exposition().decode()


def test_a_scrape_elsewhere_never_shows_less_than_the_one_before(tmp_path: Path) -> None:
    workers, last = [Worker(tmp_path) for _ in range(3)], 0.0
    for turn in range(30):
        workers[turn * 7 % 3].frames(turn)
        seen = workers[turn * 5 % 3].scraped()[FRAMES]
        assert seen >= last
        last = seen


def test_what_only_the_writer_knows_is_the_writers_word_and_stays_until_there_is_another(tmp_path: Path) -> None:
    writer, reader = Worker(tmp_path, is_writer=True), Worker(tmp_path)
    writer.gaps(42)
    writer.telemetry.share()
    assert reader.scraped()["klinenode_klines_missing"] == 42
    writer.die()
    assert reader.scraped()["klinenode_klines_missing"] == 42
    assert reader.scraped()["klinenode_is_writer"] == 0
    reader.is_writer = True
    assert reader.scraped()["klinenode_klines_missing"] == 42, "it has not planned yet"
    reader.telemetry.share()
    reader.die()
    third = Worker(tmp_path)
    assert third.scraped()["klinenode_klines_missing"] == 42, "nor ever did"
    third.is_writer = True
    third.gaps(7)
    assert third.scraped()["klinenode_klines_missing"] == 7


def test_who_has_not_planned_or_no_longer_writes_says_nothing_of_what_is_missing(tmp_path: Path) -> None:
    worker = Worker(tmp_path, is_writer=True)
    assert "klinenode_klines_missing" not in worker.scraped()
    worker.gaps(7)
    assert worker.scraped()["klinenode_klines_missing"] == 7
    worker.telemetry.observe(events.LeaseChanged(is_writer=False, holder="another"))
    assert "klinenode_klines_missing" not in worker.scraped()


def test_what_all_read_from_the_same_place_is_not_added_up(tmp_path: Path) -> None:
    one, two = Worker(tmp_path), Worker(tmp_path)
    one.disk_free, two.disk_free = one.wal, two.wal = 1000, 900
    one.telemetry.share()
    found = two.scraped()
    assert (found["klinenode_disk_free_bytes"], found["klinenode_wal_bytes"]) == (900, 1000)


def test_killed_between_keeping_the_dead_and_forgetting_their_file_nothing_counts_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Worker(tmp_path), Worker(tmp_path)
    one.frames(5)
    one.telemetry.share()
    one.die()
    unlink = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".metrics":
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            two.scraped()
    assert [two.scraped()[FRAMES] for _ in range(3)] == [5, 5, 5]


def test_a_file_that_is_not_ours_and_a_folder_that_cannot_be_written_do_not_stop_a_scrape(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    worker = Worker(folder)
    worker.frames(3)
    assert worker.scraped()[FRAMES] == 3
    (folder / "stranger.metrics").write_bytes(b"\x00 nonsense")
    (folder / "large.metrics").write_bytes(b"\x90" * (shared_metrics.FILE_BYTES_MAX + 1))
    assert worker.scraped()[FRAMES] == 3
    blocked = Worker(folder / "lock" / "below")
    blocked.frames(9)
    assert blocked.scraped()[FRAMES] == 9, "its own numbers are better than none"


def test_servers_on_one_database_count_apart_whatever_their_port(tmp_path: Path) -> None:
    database = tmp_path / "k.db"
    first, second = MetricsFolder(database), MetricsFolder(database)
    one, two, other = Worker(first.path), Worker(first.path), Worker(second.path)
    one.frames(5)
    two.frames(7)
    other.frames(100)
    for worker in (one, two, other):
        worker.telemetry.share()
    third = MetricsFolder(database)  # the start of another removes what the dead left, not what the living count
    assert [one.scraped()[FRAMES] for _ in range(3)] == [12, 12, 12]
    second.remove()
    third.remove()
    assert [two.scraped()[FRAMES] for _ in range(3)] == [12, 12, 12]
    first.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_server_that_was_killed_goes_when_another_starts(tmp_path: Path) -> None:
    killed = MetricsFolder(tmp_path / "k.db")
    Worker(killed.path).telemetry.share()
    os.close(killed._lock)
    (tmp_path / "k.db.metrics-8000").mkdir()  # an earlier version named it by the port
    (tmp_path / "other.db.metrics-8000").mkdir()
    started = MetricsFolder(tmp_path / "k.db")
    assert {path.name for path in tmp_path.iterdir()} == {started.path.name, "other.db.metrics-8000"}
    started.remove()


def test_a_worker_whose_files_somebody_deleted_is_not_taken_for_dead_at_every_scrape(tmp_path: Path) -> None:
    one, two = Worker(tmp_path), Worker(tmp_path)
    one.frames(5)
    two.frames(7)
    for worker in (one, two):
        worker.telemetry.share()
    shutil.rmtree(tmp_path)
    seen = []
    for _ in range(3):
        for worker in (one, two):
            worker.telemetry.share()
            seen.append(worker.scraped()[FRAMES])
    assert set(seen) <= {5, 12}
    assert seen[1:] == [12] * 5
    one.die()
    assert two.scraped()[FRAMES] == 12
