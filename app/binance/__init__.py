"""Binance's formats, decoded and encoded: REST bodies, socket frames and archive files. No I/O."""
