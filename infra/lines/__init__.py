"""What processes say to each other over a connection, whatever makes it: requests to the writer, and its streams."""
