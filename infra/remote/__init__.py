"""What the nodes of one database on several hosts share, over HTTP."""
