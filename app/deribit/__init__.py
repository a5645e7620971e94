"""Deribit's language: channels, frames, requests and answers, all pure (binance-facts section 8.2)."""
