"""The file of API keys: read at the start and after each change; while it has a fault, the former keys stay."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from app.access.api_keys import FILE_BYTES_MAX, ApiKeys, KeyFileError
from app.events import ApiKeysRead, ApiKeysRefused, Observe
from app.ports.clock import Clock

LOOK_EVERY_S: Final = 1.0  # a key that was removed is refused, and its sockets are closed, about a second later

_Stamp = tuple[int, int, int] | None


def read(path: Path) -> ApiKeys:
    """The keys in the file. Raises KeyFileError."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise KeyFileError(f"it cannot be read: {error.strerror or error}") from error
    return ApiKeys.parse(content)


class KeyFile:
    """Passes the keys of a file to `use`, at the start and after each change."""

    def __init__(self, path: Path, clock: Clock, observe: Observe, use: Callable[[ApiKeys], None]) -> None:
        self._path = path
        self._clock = clock
        self._observe = observe
        self._use = use
        self._stamp: _Stamp = None
        self.trouble: str | None = None
        """Why the file's present content is not in force; None if it is."""

    def look(self) -> None:
        """Read the file if it has changed since the last look."""
        stamp = self._stamp_now()
        if stamp is not None and stamp == self._stamp:
            return
        try:
            keys = read(self._path)
        except KeyFileError as error:
            self._refuse(str(error), stamp)
            return
        self._stamp, self.trouble = stamp, None
        self._use(keys)
        self._observe(ApiKeysRead(len(keys)))

    async def run(self) -> None:
        """Look every second, for ever."""
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            if await asyncio.to_thread(self._stamp_now) != self._stamp or self._stamp is None:
                self.look()

    def _refuse(self, reason: str, stamp: _Stamp) -> None:
        """Keep the former keys. Each reason is reported once."""
        self._stamp = stamp
        if self.trouble != reason:
            self.trouble = reason
            self._observe(ApiKeysRefused(reason))

    def _stamp_now(self) -> _Stamp:
        """What changes with the file's content; None while there is no file that can be read."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
