"""What the processes of one machine share, through files and sockets in RUNTIME_DIR."""
