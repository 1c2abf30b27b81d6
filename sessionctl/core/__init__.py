"""Decisions, without IO of their own: everything here works on ports."""
