"""The exceptions that msgspec raises for bad JSON."""

from typing import Final

from app.domain.unreadable import BAD_JSON

UNREADABLE: Final = BAD_JSON
