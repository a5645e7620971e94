"""Answering: what is held, what the exchange is asked for at a user's request, and what is refused."""
