"""What a process needs of its machine: clock, memory, names and modes of files."""
