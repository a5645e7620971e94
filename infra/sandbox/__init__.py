"""A seeded Binance on loopback: REST, sockets, archive and faults."""
