"""What klinenode knows: the domain, the exchange's language, the services and the HTTP face."""
