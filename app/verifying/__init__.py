"""Verification: held klines and recorded absence compared with the exchange, and repaired where they differ."""
