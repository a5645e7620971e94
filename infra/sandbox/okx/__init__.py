"""OKX, as its public documentation describes it."""
