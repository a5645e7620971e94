"""What each REST endpoint answers: functions of the exchange, the query and the time (binance-facts section 2)."""
