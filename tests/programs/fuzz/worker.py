"""One target under atheris in its own process: `python -m tests.programs.fuzz.worker TARGET [libFuzzer options]`.

libFuzzer ends the process: with status 0 after its runs, with another one after a failure, whose input it has saved.
"""

import importlib
import sys
from collections.abc import Sequence
from random import Random
from typing import Any, Final

INSTRUMENTED: Final = (
    "app.domain",
    "app.binance",
    "app.http",
    "infra.binance",
    "infra.net",
    "zipfile",
    "email",
    "urllib.parse",
)


def main(arguments: Sequence[str]) -> None:
    """Fuzz until libFuzzer ends the process."""
    atheris: Any = importlib.import_module("atheris")
    name, *options = arguments
    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        targets = importlib.import_module("tests.programs.fuzz.targets")
    mutate = importlib.import_module("tests.programs.fuzz.mutate")
    target = targets.TARGETS[name]
    words, samples = tuple(target.dictionary), tuple(target.seeds())

    def run(data: bytes) -> None:
        target.run(data)

    def custom(data: bytes, size_max: int, seed: int) -> bytes:
        rng = Random(seed)
        if rng.random() < 0.5:
            return bytes(atheris.Mutate(data, size_max))
        return bytes(mutate.mutated(data, rng, words, samples, size_max))

    atheris.Setup([sys.argv[0], *options], run, custom_mutator=custom, internal_libfuzzer=True)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
