"""The archive of the sandbox."""
