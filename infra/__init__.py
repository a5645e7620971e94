"""How klinenode touches the world: exchange, database, telemetry, clock."""
