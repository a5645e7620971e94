"""How Binance is asked: one budget of weight and one stand-down for all processes that share RUNTIME_DIR."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from app.runtime import Runtime
from app.settings import Settings
from infra.binance.breaker import Breaker
from infra.binance.budget import WeightBudget
from infra.binance.rest import Asking, BinanceRest
from infra.binance.stand_down import StandDownGuard
from infra.local.rate_state import LocalRateState
from infra.process.runtime_dir import beside


class Upstream:
    """Binance's REST with what admits its requests."""

    def __init__(
        self,
        settings: Settings,
        runtime: Runtime,
        shared: Path,
        keep_stand_down: Callable[[int, str], Awaitable[None]],
        asking: Asking,
    ) -> None:
        """`shared` is the path from which the names of shared files are made."""
        clock, observe = runtime.clock, runtime.observe
        self.rate_state = LocalRateState(beside(shared, "weight"), clock, observe)
        self.guard = StandDownGuard(clock, observe, keep_stand_down, self.rate_state)
        self.breaker = Breaker(clock, observe, self.rate_state, runtime.seed)
        self.budget = WeightBudget(
            clock,
            settings.weight_per_minute,
            self.rate_state,
            self.guard,
            self.breaker,
            observe,
            is_data_shared=settings.is_data_shared,
        )
        self.rest = BinanceRest(settings.destination(settings.binance_rest_url), runtime, self.budget, asking=asking)
