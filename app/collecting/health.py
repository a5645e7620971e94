"""What is wrong with the collector at the moment, for /v1/health, and when each fault began and ended, for the log."""

from typing import Final

from app.collecting.reload import ConfigWatch
from app.collecting.wished_feeds import WishedFeeds
from app.collector_events import CollectorFaultBegan, CollectorFaultEnded
from app.ports.collector import CollectorControl, CollectorStatus
from app.runtime import Runtime

LOOK_EVERY_S: Final = 1.0
FAULTS_MAX: Final = 100  # sentences of one report
STREAM: Final = "stream"
"""Stands for an exchange's name in faults of the stream, and of the settings of all."""

Fault = tuple[str, str]
"""An exchange, or STREAM, and a sentence."""


class CollectorHealth:
    """Derives the faults of the collector from its status; a fault that has ended is none."""

    def __init__(self, control: CollectorControl, wished: WishedFeeds, config: ConfigWatch, runtime: Runtime) -> None:
        self._control = control
        self._wished = wished
        self._config = config
        self._clock = runtime.clock
        self._observe = runtime.observe
        self._began_ms: dict[Fault, int] = {}

    def faults(self, status: CollectorStatus) -> list[Fault]:
        """What is wrong, each once, the stream's first."""
        found: list[Fault] = [] if status.outbox.fault is None else [(STREAM, status.outbox.fault)]
        if self._config.trouble is not None:
            found.append((STREAM, f"what is to be collected is not in force as it is written: {self._config.trouble}"))
        for name, stats in status.exchanges.items():
            if not self._control.instruments(name):
                found.append((name, f"{name}: its instruments have not been read yet"))
            found += [(name, _of_exchange(name, each)) for each in stats.faults]
        found += self._wished.faults()
        return list(dict.fromkeys(found))[:FAULTS_MAX]

    def reasons(self) -> list[str]:
        """The faults as sentences for `/v1/health`."""
        return [f"collector: {text}" for _, text in self.faults(self._control.status())]

    def report(self) -> dict[str, object]:
        """What `/v1/health` says of the collector."""
        status = self._control.status()
        return {
            "uptime_s": self.uptime_s(status),
            "exchanges": {
                name: {
                    "state": each.state,
                    "sockets": each.sockets_active,
                    "feeds": sum(of_type.feeds for of_type in each.types.values()),
                    "gaps_open": sum(of_type.gaps_open for of_type in each.types.values()),
                    "books_valid": each.books_valid,
                    "books_followed": each.books_followed,
                }
                for name, each in status.exchanges.items()
            },
            "waiting": status.outbox.waiting,
            "spilled_bytes": status.outbox.spilled_bytes,
        }

    def uptime_s(self, status: CollectorStatus) -> int:
        """For how many seconds the collector has been running."""
        return max(0, self._clock.now_ms() - status.started_ms) // 1000

    def look(self) -> None:
        """Report the faults that began or ended since the last look."""
        now_ms = self._clock.now_ms()
        found = self.faults(self._control.status())
        for fault in found:
            if fault not in self._began_ms:
                self._began_ms[fault] = now_ms
                self._observe(CollectorFaultBegan(*fault))
        for fault in self._began_ms.keys() - set(found):
            self._observe(CollectorFaultEnded(*fault, now_ms - self._began_ms.pop(fault)))

    async def run(self) -> None:
        """Look every second, for ever."""
        while True:
            self.look()
            await self._clock.sleep(LOOK_EVERY_S)


def _of_exchange(name: str, fault: str) -> str:
    return fault if fault.startswith(name) else f"{name}: {fault}"
