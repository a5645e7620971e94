"""The files of exports: Parquet, Arrow, CSV, SQLite, MarketStore, written and read back; the home of pyarrow."""
