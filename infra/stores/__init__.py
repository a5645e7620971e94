"""What the adapters of all stores share: the names of tables, and rules that need no database."""
