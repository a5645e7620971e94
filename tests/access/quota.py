"""A QuotaCounter of one process, in a dictionary."""

from collections import Counter


class FakeQuota:
    def __init__(self) -> None:
        self.counts: Counter[tuple[int, int]] = Counter()

    def used(self, row: int, period: int) -> int:
        return self.counts[row, period]

    def add(self, row: int, period: int) -> None:
        assert 0 <= period < 1 << 40
        self.counts[row, period] += 1
