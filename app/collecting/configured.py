"""What the settings wish to be collected, by exchange."""

from collections.abc import Mapping
from pathlib import Path

from app import services_file
from app.domain.choice import Choice, parse_market, parse_type
from app.domain.followed import Market
from app.settings import FILE_SETTINGS, Settings

Choices = Mapping[str, tuple[Choice, ...]]
"""By exchange: what to follow there."""


def choices_of(settings: Settings) -> Choices:
    """The choices for each of EXCHANGES. Raises ServicesFileError if the file of COLLECT_CONFIG cannot be used."""
    if settings.collect_config:
        named = services_file.read(Path(settings.collect_config), FILE_SETTINGS).choices
        return {venue: named.get(venue, ()) for venue in settings.exchanges}
    return {venue: _of_venue(settings, venue) for venue in settings.exchanges}


def _of_venue(settings: Settings, venue: str) -> tuple[Choice, ...]:
    types = tuple(map(parse_type, settings.collect_types))
    markets: list[Market | None] = [parse_market(each) for each in settings.collect_markets]
    found = []
    for text in settings.collect_symbols:
        owner, _, symbol = text.rpartition(":")
        if owner in ("", venue):
            found += [Choice(symbol, market, types, is_own=owner == venue) for market in markets or [None]]
    return tuple(found)
