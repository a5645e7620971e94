"""Deribit, as its public documentation describes it."""
