"""The rate states that the contract suite runs against: each is shared by several processes, which may die."""

from pathlib import Path
from typing import Protocol, Self

from app.events import Observe
from app.ports.clock import Clock
from app.ports.coordination import RateStateKeeper
from infra.local.rate_state import LocalRateState
from tests.coordination.fake_rate_state import FakeRateState, FakeServer


class RateStates(Protocol):
    """A rate state that processes share. A new adapter adds one of these to RATE_STATES."""

    turns: int
    """Turns of the event loop after which a moment is over, even if many processes update it (`VirtualClock`)."""

    @classmethod
    def made(cls, folder: Path) -> Self:
        """Make a new one, with its files, if it has any, in `folder`."""
        ...

    def keeper(self, clock: Clock, observe: Observe) -> RateStateKeeper:
        """Return the keeper of one more process."""
        ...

    def dies(self, keeper: RateStateKeeper) -> None:
        """Do what the death of the process of `keeper` does."""
        ...


class LocalRateStates:
    """One file."""

    turns = 12

    def __init__(self, file: Path) -> None:
        self._file = file

    @classmethod
    def made(cls, folder: Path) -> Self:
        return cls(folder / "klinenode.db.weight")

    def keeper(self, clock: Clock, observe: Observe) -> RateStateKeeper:
        return LocalRateState(self._file, clock, observe)

    def dies(self, keeper: RateStateKeeper) -> None:
        keeper.close()  # the kernel closes its file, nothing else happens


class FakeRateStates:
    """One server that takes its time."""

    turns = 300

    def __init__(self) -> None:
        self._server = FakeServer()

    @classmethod
    def made(cls, folder: Path) -> Self:
        return cls()

    def keeper(self, clock: Clock, observe: Observe) -> RateStateKeeper:
        return FakeRateState(self._server, turns=1)

    def dies(self, keeper: RateStateKeeper) -> None:
        keeper.close()


RATE_STATES: dict[str, type[RateStates]] = {"local": LocalRateStates, "fake": FakeRateStates}
