"""The rule of the bot: buy when a close is above the mean of the last ones, sell when it is below."""

from collections import deque

WINDOW = 10


class Bot:
    """Decides at each close, once it has seen WINDOW of them."""

    def __init__(self) -> None:
        self._closes: deque[float] = deque(maxlen=WINDOW)

    def closed(self, close: float) -> str | None:
        """The decision at a close; None while it warms up."""
        self._closes.append(close)
        if len(self._closes) < WINDOW:
            return None
        mean = sum(self._closes) / WINDOW
        return "buy" if close > mean else "sell" if close < mean else "hold"
