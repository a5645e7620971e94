"""A weight budget with its guards, as a node has them."""

from pathlib import Path

from app.ports.clock import Clock
from app.ports.coordination import RateStateKeeper
from infra.binance.breaker import Breaker
from infra.binance.budget import WeightBudget
from infra.binance.stand_down import Save, StandDownGuard
from infra.local.rate_state import LocalRateState
from tests.coordination.fake_rate_state import FakeRateState
from tests.coordination.rate_states import RateStates
from tests.net.loopback import Witness


async def keep_nothing(until_ms: int, reason: str) -> None:
    pass


class Upstream:
    """One process. It shares `states`, or the file at `path`, with others; without either it is alone."""

    def __init__(
        self,
        clock: Clock,
        limit: int = 2_400,
        *,
        witness: Witness | None = None,
        save: Save = keep_nothing,
        path: Path | None = None,
        states: RateStates | None = None,
        seed: int = 0,
        is_data_shared: bool = True,
    ) -> None:
        self.witness = witness or Witness()
        self._states = states
        self.keeper: RateStateKeeper
        if states is not None:
            self.keeper = states.keeper(clock, self.witness)
        else:
            self.keeper = LocalRateState(path, clock, self.witness) if path else FakeRateState()
        self.guard = StandDownGuard(clock, self.witness, save, self.keeper)
        self.breaker = Breaker(clock, self.witness, self.keeper, seed)
        self.budget = WeightBudget(
            clock, limit, self.keeper, self.guard, self.breaker, self.witness, is_data_shared=is_data_shared
        )

    async def used(self) -> int:
        """Return the weight used in the minute, with that of the other processes."""
        await self.keeper.update(lambda state: None)
        return self.budget.used

    def dies(self) -> None:
        """Do what kill -9 does."""
        if self._states is not None:
            self._states.dies(self.keeper)
        else:
            self.keeper.close()  # the kernel closes its file, nothing else happens
