"""The node's own streams, and the connections of clients."""
