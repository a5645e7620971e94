"""What the processes of one machine share, in RUNTIME_DIR."""
