"""A weight budget with its guards, as a node has them."""

from pathlib import Path

from app.ports.clock import Clock
from infra.binance.breaker import Breaker
from infra.binance.budget import WeightBudget
from infra.binance.rate_state import OwnRateState, RateStateKeeper
from infra.binance.shared_rate_state import SharedRateState
from infra.binance.stand_down import Save, StandDownGuard
from tests.binance.loopback import Witness


async def keep_nothing(until_ms: int, reason: str) -> None:
    pass


class Upstream:
    """The budget of one process; processes with the same `path` share its state, without `path` nothing is shared."""

    def __init__(
        self,
        clock: Clock,
        limit: int = 2_400,
        *,
        witness: Witness | None = None,
        save: Save = keep_nothing,
        path: Path | None = None,
        seed: int = 0,
    ) -> None:
        self.witness = witness or Witness()
        self.keeper: RateStateKeeper = SharedRateState(path, clock, self.witness) if path else OwnRateState()
        self.guard = StandDownGuard(clock, self.witness, save, self.keeper)
        self.breaker = Breaker(clock, self.witness, self.keeper, seed)
        self.budget = WeightBudget(clock, limit, self.keeper, self.guard, self.breaker, self.witness)

    def dies(self) -> None:
        """End as by kill -9: the kernel closes the file, and no other clean-up happens."""
        assert isinstance(self.keeper, SharedRateState)
        self.keeper.close()
