"""A budget with its guards, as a node has them."""

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
    """One process: what it shares with others lies in `path`; without one it is by itself."""

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
        """As after kill -9: the kernel closes its file, nothing else happens."""
        assert isinstance(self.keeper, SharedRateState)
        self.keeper.close()
