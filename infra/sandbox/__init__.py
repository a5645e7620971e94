"""A seeded Binance, OKX and Deribit on loopback: REST, sockets, Binance's archive, and faults."""
