"""Redis: every operation on demand and records is one atomic script (DESIGN 5)."""
