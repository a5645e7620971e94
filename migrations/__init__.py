"""Alembic migrations, run at start-up by the writer."""
