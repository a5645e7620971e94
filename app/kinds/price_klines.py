"""Klines of sampled prices: mark price, index price and premium index.

Their rows count samples and have no volumes (binance-facts section 3). It is unconfirmed how the counts of longer ones
add up, and the node reads neither sockets nor archive for them, so every interval is fetched from REST.
"""

from dataclasses import replace
from functools import partial
from typing import Final

from app.binance import rest_rows
from app.domain.kind import Kind
from app.kinds import PRICE_KLINES
from app.kinds.klines import KLINES

LIVE_AGE_MS_MAX: Final = 1_000  # prices move every second; as long as a passed-through answer is cached


def _kind(name: str, suffix: str, *, of_pair: bool = False, is_signed: bool = False) -> Kind:
    return Kind(
        name=name,
        suffix=suffix,
        row=KLINES.row,
        columns=KLINES.columns,
        table=KLINES.table,
        printed=KLINES.printed,
        encoder=KLINES.encoder,
        rest=replace(
            KLINES.rest,
            path=f"/fapi/v1/{suffix}Klines",
            symbol="pair" if of_pair else "symbol",
            decode=partial(rest_rows.decode, is_signed=is_signed),
        ),
        of_pair=of_pair,
        live_age_ms_max=LIVE_AGE_MS_MAX,
    )


MARK: Final = _kind("mark", "markPrice")
INDEX: Final = _kind("index", "indexPrice", of_pair=True)  # belongs to a pair (binance-facts section 2.1)
PREMIUM: Final = _kind("premium", "premiumIndex", is_signed=True)

PRICES: Final = {kind.name: kind for kind in (MARK, INDEX, PREMIUM)}
"""By name, as in the setting PRICE_KLINES."""
assert tuple(PRICES) == PRICE_KLINES, "the settings know other price klines"
