"""One target under atheris, in a process of its own: `python -m tests.programs.fuzz.worker TARGET [libFuzzer options]`.

libFuzzer ends the process: status 0 after its runs, anything else after a failure, whose input it has written down.
"""

import importlib
import sys
from collections.abc import Sequence
from random import Random
from typing import Any, Final

INSTRUMENTED: Final = ("app.domain", "app.binance", "app.http", "infra.binance", "zipfile", "email", "urllib.parse")


def main(arguments: Sequence[str]) -> None:
    """Fuzz until libFuzzer has had enough."""
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
