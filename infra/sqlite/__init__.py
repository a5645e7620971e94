"""SQLite: schema, store and writer lease."""
