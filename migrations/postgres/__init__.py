"""The revisions of the schema on Postgres, which infra.postgres.migrate runs."""
