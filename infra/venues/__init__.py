"""The exchanges as the collector reaches them: sockets and GET requests."""
