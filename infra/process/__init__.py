"""Access to the operating system that every process needs: clock, memory, files."""
