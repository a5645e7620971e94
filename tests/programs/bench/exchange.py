"""The sandbox as a process of its own on a pinned clock.

`python -m tests.programs.bench.exchange CLOCK PORT SYMBOLS RATE` sends RATE times the market's frames
(tests/programs/soak/flood.py), once SIGUSR1 has come; until then only closing frames are sent.
"""

import signal
import sys
from pathlib import Path

from infra.sandbox.server import create_app
from tests.programs.bench.pinned import PinnedClock
from tests.programs.soak.flood import WEIGHT_LIMIT, FloodHub, serve


def main() -> None:
    """Run until it is killed."""
    path, port, symbols, rate = sys.argv[1:]
    app = create_app(PinnedClock(Path(path)), symbols=int(symbols), weight_limit=WEIGHT_LIMIT)
    hub = app.sockets.hub = FloodHub(app.exchange, app.faults, float(rate))
    signal.signal(signal.SIGUSR1, lambda _signal, _frame: hub.open())
    serve(app, int(port))


if __name__ == "__main__":
    main()
