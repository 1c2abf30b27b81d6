"""Fakes behind ports, for sessionctl's own tests and for those of its users."""
