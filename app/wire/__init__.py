"""Binance's language, both ways. No I/O, no clock."""
