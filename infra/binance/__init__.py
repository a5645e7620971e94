"""Binance over the network: REST, sockets and archive."""
