"""What `klinenode status` shows: a node's own reports, read into one snapshot, and laid out for a terminal."""
