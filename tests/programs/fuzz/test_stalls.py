"""Tests that the server ends a stalled peer in every phase of a connection and keeps nothing of it."""

import random

import pytest

from tests.programs.fuzz.stalls import PHASES, Phase, server, stall

VARIANTS = 4
SEED = 20261128


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
async def test_a_peer_that_stalls_is_ended_and_nothing_of_it_is_left(phase: Phase) -> None:
    async with server() as made:
        for variant in range(VARIANTS):
            await stall(made, phase, random.Random(f"{SEED}:{variant}"))
