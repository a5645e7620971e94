"""The node: the composition root, the roles of writer and follower, the supervisor, health and metrics."""
