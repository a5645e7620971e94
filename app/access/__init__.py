"""Who may ask: API keys, the file that they are stored in, and the quota of each."""
