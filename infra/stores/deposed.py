"""What a writer is told when another one has taken over."""

from app.ports.errors import StoreUnavailable


class Deposed(StoreUnavailable):
    """Another process has become the writer since this one opened the database."""

    def __init__(self) -> None:
        super().__init__("another process has become the writer of the database; this one only reads from now on")
