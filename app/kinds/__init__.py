"""The kinds of series, one file each: all that is special about one stands there and nowhere else."""

from typing import Final

PRICE_KLINES: Final = ("mark", "index", "premium")
"""The words of price_klines.PRICES, for the settings: whoever only reads those needs no decoders."""
