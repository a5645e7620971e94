"""How the exchange behaves where its behaviour is unconfirmed, and whether its archive has seeded quirks."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RestDigits:
    """How REST prints the exact numbers of the statistics; which form is the exchange's is unconfirmed.

    Open interest and its value have `amount_places` decimals, ratios `ratio_places`. Each number is rounded half up, or
    with `cut` its further digits are left out. `trimmed` leaves out trailing zeros of open interest and its value.
    """

    amount_places: int = 8
    ratio_places: int = 4
    cut: bool = False
    trimmed: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """The choices of one exchange.

    `archive_quirks`: some files of metrics have faults, drawn from the seed (infra/sandbox/archive/quirks.py).
    `data_limit_per_path`: each path under /futures/data has 1,000 requests in five minutes, instead of all together
    (unconfirmed for the exchange).
    `book_ticks`: the ticks on each side of a book, of which nine in ten have a level; at most 1,000, so that a snapshot
    of 1,000 levels has all of them.
    `rate`: the mean trades a second of each instrument of OKX and Deribit; None: each has its own, 5 to 20.
    """

    archive_quirks: bool = False
    data_limit_per_path: bool = False
    rate: float | None = None
    book_ticks: int = 1_000
    rest_digits: RestDigits = field(default_factory=RestDigits)
