"""The check of the settings: faults, and settings that contradict each other."""

from collections.abc import Sequence
from typing import Final

from app.doctor.finding import Finding, fail, ok, warn
from app.settings import NodeSettings, Settings

WORKERS_PER_CORE_MAX: Final = 2  # more workers than that only take memory from each other

_DEFAULT_SYMBOLS: Final = NodeSettings.model_fields["symbols"].default


def unusable(fault: str) -> Finding:
    """Settings with which nothing can start."""
    return fail("settings", fault, "correct them in the environment or .env; `klinenode config` shows what is in force")


def settings(found: Settings, remarks: Sequence[str], cores: int) -> Finding:
    """Whether the settings agree with each other and all names are known."""
    doubts = [*remarks, *_contradictions(found, cores)]
    if doubts:
        return warn("settings", "; ".join(doubts), "change or remove one of the settings named")
    return ok("settings", "every value can be used, and none contradicts another")


def _contradictions(found: Settings, cores: int) -> list[str]:
    doubts = []
    if found.auto_sync_symbols and found.symbols != _DEFAULT_SYMBOLS:
        doubts.append(
            "SYMBOLS is set, and AUTO_SYNC_SYMBOLS=true replaces it by the exchange's list; to hold only SYMBOLS set "
            "AUTO_SYNC_SYMBOLS=false"
        )
    if found.seal_after_days > found.backfill_days:
        doubts.append("SEAL_AFTER_DAYS is longer than BACKFILL_DAYS, so that nothing is ever compressed")
    if found.workers > cores * WORKERS_PER_CORE_MAX:
        doubts.append(f"WORKERS={found.workers} is more than {cores} cores have use for")
    if found.nats_url and not found.exchanges:
        doubts.append("NATS_URL is set, and without EXCHANGES nothing is collected")
    return doubts
