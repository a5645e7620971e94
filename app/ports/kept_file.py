"""One file that is read and written as a whole."""

from typing import Protocol


class KeptFile(Protocol):
    """A file whose content is either the old one or the new one, also after a power cut. Both calls block."""

    @property
    def name(self) -> str:
        """Its path, for people."""
        ...

    def read(self) -> bytes | None:
        """Its content; None: there is none yet. Raises OSError."""
        ...

    def write(self, content: bytes) -> None:
        """Replace its content; when this returns, it is on the disk. Raises OSError, with the old content kept."""
        ...
