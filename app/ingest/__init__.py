"""Ingest of socket events: live klines, their roll-ups, disputes between sockets and store, and relistings."""
