"""What is to be collected may change while the collector runs: `.env` and the file of COLLECT_CONFIG are read again."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from app.collecting.configured import Choices, choices_of
from app.collector_events import CollectConfigRead, CollectConfigRefused, RestartNeeded
from app.domain import letters
from app.runtime import Runtime
from app.services_file import ServicesFileError
from app.settings import Settings, SettingsError

LOOK_EVERY_S: Final = 1.0  # a signal and a changed file are noticed within a second
LIVE: Final = frozenset({"COLLECT_SYMBOLS", "COLLECT_TYPES", "COLLECT_MARKETS"})
"""The settings that can change live, beside the content of COLLECT_CONFIG. All others are taken over at a start."""

_Stamp = tuple[int, int, int] | None


class ConfigWatch:
    """Passes the choices of changed settings to `use`; while they have a fault, the former ones stay.

    `load` reads the settings as they were read at the start, with the options of the command line. Make it before the
    choices of the start are read: a change in between would be missed.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        use: Callable[[Choices], Awaitable[None]],
        runtime: Runtime,
    ) -> None:
        self._settings = settings
        self._load = load
        self._use = use
        self._clock = runtime.clock
        self._observe = runtime.observe
        self._stamp = self._stamp_now()
        self._is_asked = False
        self._named: tuple[str, ...] = ()
        self.trouble: str | None = None
        """Why the present settings are not in force; None if they are."""

    def ask(self) -> None:
        """Read the settings again within a second, changed or not: the handler of SIGHUP."""
        self._is_asked = True

    async def run(self) -> None:
        """Look every second, for ever."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Read the settings again if they were asked for, or if the file of COLLECT_CONFIG has changed."""
        stamp = await asyncio.to_thread(self._stamp_now)
        if not self._is_asked and stamp == self._stamp:
            return
        is_asked, self._is_asked = self._is_asked, False
        self._stamp = stamp
        try:
            settings, choices = await asyncio.to_thread(self._read)
        except (SettingsError, ServicesFileError) as error:
            if is_asked or self.trouble != str(error):
                self._observe(CollectConfigRefused(str(error)))
            self.trouble = str(error)
            return
        self.trouble = None
        self._name_others(settings, is_asked=is_asked)
        here = {name: choices.get(name, ()) for name in self._settings.exchanges}
        await self._use(here)
        self._observe(CollectConfigRead(tuple(here), sum(len(each.types) for some in here.values() for each in some)))

    def _read(self) -> tuple[Settings, Choices]:
        settings = self._load()  # the file that was named at the start stays the one that is read
        return settings, choices_of(settings.model_copy(update={"collect_config": self._settings.collect_config}))

    def _name_others(self, settings: Settings, *, is_asked: bool) -> None:
        """Report settings that have changed and cannot change live; again only if they are others, or on a signal."""
        names = _different(self._settings, settings)
        if names and (is_asked or names != self._named):
            self._observe(RestartNeeded(names))
        self._named = names

    def _stamp_now(self) -> _Stamp:
        """What changes with the file's content; None while there is no such file."""
        if not self._settings.collect_config:
            return None
        try:
            found = Path(self._settings.collect_config).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _different(before: Settings, after: Settings) -> tuple[str, ...]:
    """The names of the settings that differ and cannot change live."""
    names = [name for name in type(before).model_fields if letters.upper(name) not in LIVE]
    return tuple(letters.upper(name) for name in names if getattr(before, name) != getattr(after, name))
