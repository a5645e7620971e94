"""What is held, compared with the exchange and mended."""
