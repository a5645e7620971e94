"""Market data beside klines: endpoints that are passed on, and mirrors of them that streams keep."""
