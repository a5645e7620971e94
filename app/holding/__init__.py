"""The wish and what the node holds of it: ledger, tail, commits, freshness and completeness."""
