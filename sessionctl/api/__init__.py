"""The Session API: HTTP in front of core (DESIGN 6)."""
