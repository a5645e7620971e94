"""Files that hold messages while the stream is away."""
