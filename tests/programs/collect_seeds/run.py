"""Play seeds of the collector's session in virtual time and print those that fail.

python -m tests.programs.collect_seeds.run --seeds 1000 --seed 1
"""

import argparse
import sys
import time
from collections import Counter

from tests.programs.collect_seeds.check import failures
from tests.programs.collect_seeds.schedule import plan
from tests.programs.collect_seeds.world import World

SHOWN = 6
PROGRESS_EVERY = 50


def play(seed: int) -> tuple[list[str], Counter[str]]:
    """Play one seed; return what is wrong, and what happened how often."""
    world = World(plan(seed))
    world.run()
    return failures(world), world.counts


def main() -> int:
    """Play the seeds of the command line; the status is 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    failed = []
    began_s = time.perf_counter()
    for seed in range(options.seed, options.seed + options.seeds):
        found, seen = play(seed)
        counts.update(seen)
        if found:
            failed.append(seed)
            print(f"seed {seed} FAILED: {len(found)} faults", *found[:SHOWN], sep="\n    ", flush=True)
        if (seed - options.seed + 1) % PROGRESS_EVERY == 0:
            passed_s = time.perf_counter() - began_s
            print(f"{seed - options.seed + 1} seeds, {len(failed)} failed, {passed_s:.0f} s", flush=True)
    print(*(f"{name} {number:,}" for name, number in sorted(counts.items())), sep=", ")
    print(f"{options.seeds} seeds, failed: {failed or 'none'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
