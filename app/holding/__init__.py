"""What is wished and what is held: the ledger, the tail, commits, and how fresh and whole they are."""
