"""Merges the metrics of all workers of a server, so that a scrape of any worker returns the same values.

Each worker writes its values to a file; a scraped worker writes its own and adds up all files. Counters never fall: the
worker that finds another one dead adds the dead one's counters to the file `gone`.
"""

import contextlib
import fcntl
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from app.metric import IS_WRITER, Merge
from infra.process.private_file import FOLDER_MODE, open_private
from infra.process.whole_file import replace

FILE_BYTES_MAX: Final = 4 * 1024 * 1024  # the metrics of a worker take 30 kB

_GROWING: Final = frozenset({"counter", "histogram", "summary"})
_OF_THE_PROCESS: Final = {"process_start_time_seconds": Merge.SMALLEST, "process_max_fds": Merge.SMALLEST}
"""Gauges of Prometheus' library that are not summed."""

_Key = tuple[str, tuple[tuple[str, str], ...]]


class _Family(msgspec.Struct, array_like=True):
    name: str
    documentation: str
    type: str
    samples: list[tuple[str, dict[str, str], float]]


class _Gone(msgspec.Struct, array_like=True):
    """Counters and last gauges of dead workers; `folded` names those that are included but still have a file."""

    families: list[_Family]
    last_word: list[_Family]
    folded: list[str]


class SharedMetrics:
    """The metrics of this worker, and of all workers in `folder`. Thread-safe.

    `merges` says for the declared metrics, by their names, how the workers' numbers become one.
    """

    def __init__(self, folder: Path, registry: CollectorRegistry, merges: Mapping[str, Merge]) -> None:
        self._folder = folder
        self._registry = registry
        self._merges = merges
        self._thread_lock = threading.Lock()
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._life: int | None = None

    def share(self) -> None:
        """Write this worker's metrics to its file. Raises OSError."""
        with self._locked():
            self._write_own()

    def exposition(self) -> bytes:
        """The metrics of all workers in Prometheus' text format. Raises OSError."""
        registry = CollectorRegistry()
        registry.register(_Merged(self.families()))
        return generate_latest(registry)

    def families(self) -> list[Metric]:
        """The metrics of all workers. Raises OSError."""
        with self._locked():
            own = self._write_own()
            living = [own]
            gone = self._read_gone()
            for path in sorted(self._folder.glob("*.metrics")):
                if path.stem == self._name or path.stem in gone.folded:
                    continue
                families = _decoded(path)
                if families is None:
                    continue
                if self._lives(path.stem):
                    living.append(families)
                else:
                    self._fold(gone, path.stem, families)
            self._bury(gone)
        return self._merged(living, gone)

    def _merge_of(self, family: _Family) -> Merge:
        """As it is declared; else what only grows is added up for good, and what does not, among the living."""
        declared = self._merges.get(family.name) or _OF_THE_PROCESS.get(family.name)
        return declared or (Merge.TOTAL if family.type in _GROWING else Merge.SUM)

    def _fold(self, gone: _Gone, name: str, families: list[_Family]) -> None:
        """Add what a dead worker has counted to what is gone."""
        known = _by_name(gone.families)
        for family in families:
            if self._merge_of(family) is not Merge.TOTAL:
                continue
            before = known.get(family.name)
            samples = _sum([family] if before is None else [before, family])
            known[family.name] = _Family(family.name, family.documentation, family.type, samples)
        gone.families = list(known.values())
        if _is_writer(families):
            said = [each for each in families if self._merge_of(each) is Merge.WRITER and each.samples]
            gone.last_word = list(_by_name([*gone.last_word, *said]).values())
        gone.folded.append(name)

    def _merged(self, living: list[list[_Family]], gone: _Gone) -> list[Metric]:
        by_name: dict[str, list[_Family]] = {}
        for families in living:
            for family in families:
                by_name.setdefault(family.name, []).append(family)
        counted = _by_name(gone.families)
        writer = next((families for families in living if _is_writer(families)), [])
        word = _by_name([*gone.last_word, *(family for family in writer if family.samples)])
        merged = []
        for name, found in by_name.items():
            metric = Metric(name, found[0].documentation, found[0].type)
            match self._merge_of(found[0]):
                case Merge.TOTAL:
                    samples = _sum([*found, counted[name]] if name in counted else found)
                case Merge.SUM:
                    samples = _sum(found)
                case Merge.WRITER:
                    samples = word[name].samples if name in word else []
                case Merge.LARGEST:
                    samples = _chosen(found, max)
                case Merge.SMALLEST:
                    samples = _chosen(found, min)
            for sample in samples:
                metric.add_sample(*sample)
            merged.append(metric)
        return merged

    def _write_own(self) -> list[_Family]:
        self._show_life()
        families = [
            _Family(
                metric.name,
                metric.documentation,
                metric.type,
                [(each.name, each.labels, float(each.value)) for each in metric.samples],
            )
            for metric in self._registry.collect()
        ]
        replace(self._path("metrics"), msgspec.msgpack.encode(families), is_durable=False)
        return families

    def _show_life(self) -> None:
        """Hold the lock that shows that this process is alive; create its file again if somebody deleted it."""
        path = self._path("life")
        if self._life is not None:
            if path.exists() and os.path.samestat(os.fstat(self._life), path.stat()):
                return
            os.close(self._life)
        self._life = open_private(path)
        fcntl.flock(self._life, fcntl.LOCK_EX)

    def _lives(self, name: str) -> bool:
        """Whether a worker may be alive. One without a lock file may be: somebody deleted the file.

        If it were considered dead, its counters would be added to `gone` at every scrape, and counted again as its own.
        """
        try:
            fd = os.open(self._folder / f"{name}.life", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def _read_gone(self) -> _Gone:
        path = self._folder / "gone"
        return msgspec.msgpack.decode(path.read_bytes(), type=_Gone) if path.exists() else _Gone([], [], [])

    def _bury(self, gone: _Gone) -> None:
        """Write `gone`, and only then delete its workers' files, so that a kill in between counts nothing twice."""
        if not gone.folded:
            return
        replace(self._folder / "gone", msgspec.msgpack.encode(gone), is_durable=False)
        for name in gone.folded:
            for kind in ("metrics", "life"):
                (self._folder / f"{name}.{kind}").unlink(missing_ok=True)
        gone.folded = []
        replace(self._folder / "gone", msgspec.msgpack.encode(gone), is_durable=False)

    def _path(self, kind: str) -> Path:
        return self._folder / f"{self._name}.{kind}"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._thread_lock:
            self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            fd = open_private(self._folder / "lock")
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                yield
            finally:
                os.close(fd)


class _Merged:
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics

    def describe(self) -> Iterable[Metric]:
        return []


def _decoded(path: Path) -> list[_Family] | None:
    if path.stat().st_size > FILE_BYTES_MAX:
        return None
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=list[_Family])
    except msgspec.DecodeError:
        return None  # not a metrics file


def _by_name(families: Iterable[_Family]) -> dict[str, _Family]:
    return {family.name: family for family in families}


def _is_writer(families: list[_Family]) -> bool:
    return any(family.name == IS_WRITER.name and family.samples[0][2] > 0 for family in families)


def _sum(families: list[_Family]) -> list[tuple[str, dict[str, str], float]]:
    totals: dict[_Key, float] = {}
    for key, value in _values(families):
        totals[key] = totals.get(key, 0.0) + value
    return _samples(totals)


def _chosen(
    families: list[_Family], choose: Callable[[float, float], float]
) -> list[tuple[str, dict[str, str], float]]:
    chosen: dict[_Key, float] = {}
    for key, value in _values(families):
        chosen[key] = choose(chosen.get(key, value), value)
    return _samples(chosen)


def _values(families: list[_Family]) -> Iterator[tuple[_Key, float]]:
    for family in families:
        for name, labels, value in family.samples:
            yield (name, tuple(labels.items())), value


def _samples(values: dict[_Key, float]) -> list[tuple[str, dict[str, str], float]]:
    return [(name, dict(labels), value) for (name, labels), value in values.items()]
