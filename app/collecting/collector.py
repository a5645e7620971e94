"""A process's collector as the rest of the process knows it: control, wish, reload and health, made together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from app.collecting.configured import choices_of
from app.collecting.health import CollectorHealth
from app.collecting.reload import ConfigWatch
from app.collecting.wished_feeds import WishedFeeds
from app.ports.collector import CollectorControl
from app.ports.kept_file import KeptFile
from app.runtime import Runtime
from app.settings import Settings

WISH_FILE: Final = "wish.json"
"""The file in COLLECT_DIR with what requests have changed."""


@dataclass(frozen=True, slots=True)
class Collector:
    """What the routes, health and metrics of a process know of its collector."""

    control: CollectorControl
    wished: WishedFeeds
    config: ConfigWatch
    health: CollectorHealth

    @classmethod
    def over(
        cls,
        control: CollectorControl,
        settings: Settings,
        load: Callable[[], Settings],
        wish_file: KeptFile,
        runtime: Runtime,
    ) -> Self:
        """Make the parts around `control`; `load` reads the settings again. Raises WishFileError, ServicesFileError.

        What has to run beside: `config.run`, `health.run`, and `wished.apply(exchange)` whenever an exchange's
        instruments were read.
        """
        config = ConfigWatch(settings, load, lambda choices: wished.configure(choices), runtime)
        wished = WishedFeeds(control, choices_of(settings), wish_file, runtime.observe)
        wished.load()
        return cls(control, wished, config, CollectorHealth(control, wished, config, runtime))
