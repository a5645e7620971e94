"""Market data other than klines: pass-through endpoints, and in-memory mirrors of some that streams keep current."""
