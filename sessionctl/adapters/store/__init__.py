"""Redis: every operation that decides something is one atomic script (DESIGN 5)."""
