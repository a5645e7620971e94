"""Deribit, as described in binance-facts section 8.2."""
