"""Redis: the shared cache of several nodes."""
