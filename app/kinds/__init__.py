"""The kinds of series, one file each: what is special about a kind is in its file and nowhere else."""

from typing import Final

PRICE_KLINES: Final = ("mark", "index", "premium")
"""The names of price_klines.PRICES. They are here so that reading the settings does not import the decoders."""
