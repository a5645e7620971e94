"""Binance's language, both ways: what its REST, sockets and archive say, and how the node says it again."""
