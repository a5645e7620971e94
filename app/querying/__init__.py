"""Answering queries: from held klines, by a request to the exchange (read-through), or with a refusal."""
