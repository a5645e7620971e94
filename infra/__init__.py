"""The adapters to the outside: exchange, database, telemetry, operating system."""
