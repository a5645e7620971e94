"""NATS: the stream that records are published to, and how the collector is found there."""
