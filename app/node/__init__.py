"""The parts put together: the node, what only the writer does, what the others do, and how it all fares."""
