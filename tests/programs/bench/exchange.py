"""The sandbox exchange as a process on a pinned clock.

`python -m tests.programs.bench.exchange CLOCK PORT SYMBOLS RATE` sends RATE times the market's frames
(tests/programs/soak/flood.py) from SIGUSR1 on; before that it sends only closing frames.
"""

import signal
import sys
from pathlib import Path

from infra.sandbox.server import create_app
from tests.programs.bench.pinned import PinnedClock
from tests.programs.soak.flood import WEIGHT_LIMIT, FloodHub, serve


def main() -> None:
    """Read the arguments and serve until the process is killed."""
    path, port, symbols, rate = sys.argv[1:]
    app = create_app(PinnedClock(Path(path)), symbols=int(symbols), weight_limit=WEIGHT_LIMIT)
    hub = app.sockets.hub = FloodHub(app.exchange, app.faults, float(rate))
    signal.signal(signal.SIGUSR1, lambda _signal, _frame: hub.open())
    serve(app, int(port))


if __name__ == "__main__":
    main()
