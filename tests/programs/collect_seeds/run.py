"""Play seeds of the collector in virtual time and print those that fail.

python -m tests.programs.collect_seeds.run --seeds 1000 --seed 1 --exchange all

`model` is the session alone against an exchange made for its tests; `binance`, `okx` and `deribit` are the whole
collector with the real mappers against the sandbox's exchanges; `all` takes turns.
"""

import argparse
import sys
import time
from collections import Counter

from tests.programs.collect_seeds import check, venue_check
from tests.programs.collect_seeds.schedule import plan as model_plan
from tests.programs.collect_seeds.venue_plan import EXCHANGES
from tests.programs.collect_seeds.venue_plan import plan as venue_plan
from tests.programs.collect_seeds.venue_world import VenueWorld
from tests.programs.collect_seeds.world import World

SHOWN = 6
PROGRESS_EVERY = 50
MODEL = "model"


def play(seed: int, exchange: str = MODEL) -> tuple[list[str], Counter[str]]:
    """Play one seed; return what is wrong, and what happened how often."""
    if exchange == MODEL:
        world = World(model_plan(seed))
        world.run()
        return check.failures(world), world.counts
    real = VenueWorld(venue_plan(seed, exchange))
    real.run()
    return venue_check.failures(real), real.counts


def main() -> int:
    """Play the seeds of the command line; the status is 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--exchange", choices=(MODEL, *EXCHANGES, "all"), default="all")
    options = parser.parse_args()
    kinds = EXCHANGES if options.exchange == "all" else (options.exchange,)
    counts: Counter[str] = Counter()
    failed = []
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    for number, seed in enumerate(range(options.seed, options.seed + options.seeds), 1):
        kind = kinds[seed % len(kinds)]
        found, seen = play(seed, kind)
        counts.update(seen)
        if found:
            failed.append(f"{kind} {seed}")
            print(f"{kind} {seed} FAILED: {len(found)} faults", *found[:SHOWN], sep="\n    ", flush=True)
        if number % PROGRESS_EVERY == 0:
            print(f"{number} seeds, {len(failed)} failed, {time.perf_counter() - began_s:.0f} s", flush=True)
    print(*(f"{name} {number:,}" for name, number in sorted(counts.items())), sep=", ")
    cpu_s = (time.process_time() - began_cpu_s) / max(1, options.seeds)
    print(f"{options.seeds} seeds, {cpu_s:.2f} s of processor time each, failed: {', '.join(failed) or 'none'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
