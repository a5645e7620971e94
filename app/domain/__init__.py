"""The pure core: intervals, spans, klines and roll-up. No I/O, no clock."""
