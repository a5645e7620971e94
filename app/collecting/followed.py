"""A feed that is followed: its rules, its channels, and when the session looks at it again."""

from random import Random

from app.collecting.book_chain import BookRule
from app.collecting.book_feed import BookFeed
from app.collecting.feed_rules import NEVER_MS, FeedRules
from app.collecting.funding_feed import FundingFeed
from app.collecting.kline_feed import KlineFeed
from app.collecting.ledger import SequenceLedger
from app.collecting.outlet import Outlet
from app.collecting.state_feed import StateFeed
from app.collecting.trade_feed import TradeFeed
from app.domain.gap_reason import GapReason
from app.domain.interval import INTERVALS
from app.domain.records import DataType, Feed
from app.domain.venue import Channel
from app.ports.venue import Venue


class Followed:
    """One feed's rules with what the session keeps beside them."""

    __slots__ = ("channels", "rules", "scheduled_ms")

    def __init__(self, rules: FeedRules, channels: tuple[Channel, ...]) -> None:
        self.rules = rules
        self.channels = channels
        self.scheduled_ms = NEVER_MS


class FeedFactory:
    """Begins feeds of one exchange, each from what the ledger holds of it."""

    def __init__(self, venue: Venue, ledger: SequenceLedger, book_rule: BookRule, epoch: int, chance: Random) -> None:
        self._venue = venue
        self._ledger = ledger
        self._book_rule = book_rule
        self._epoch = epoch
        self._chance = chance

    def begin(self, feed: Feed, outlet: Outlet, reason: GapReason) -> Followed | None:
        """The feed, to be followed; None: the exchange has none. `reason`: why records may be missing."""
        if feed.data_type is DataType.KLINE and feed.interval not in INTERVALS:
            return None
        try:
            channels = self._venue.channels(feed)
        except LookupError:
            return None
        return Followed(self._rules(feed, outlet, reason), channels)

    def _rules(self, feed: Feed, outlet: Outlet, reason: GapReason) -> FeedRules:
        venue, origin, chance = self._venue, self._ledger.origin(feed, reason), self._chance
        match feed.data_type:
            case DataType.TRADE:
                return TradeFeed(feed, venue, origin, outlet, chance)
            case DataType.KLINE:
                return KlineFeed(feed, venue, origin, outlet, chance)
            case DataType.FUNDING_RATE:
                return FundingFeed(feed, venue, origin, outlet, chance)
            case DataType.ORDERBOOK:
                self._epoch += 1  # the book of a feed that is followed again counts from one
                return BookFeed(feed, venue, self._book_rule, (self._epoch - 1, origin), outlet, chance)
            case DataType.TICKER | DataType.OPEN_INTEREST:
                return StateFeed(feed, venue, origin, outlet, chance)
