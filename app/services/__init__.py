"""What the node does: sync symbols, ingest, reconcile, answer."""
