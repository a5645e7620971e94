"""The collector: what is followed, the rules of sequence, and publishing; it knows no socket and no exchange."""
