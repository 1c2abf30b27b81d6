"""The Session API: translates HTTP into calls of core, and answers into JSON (DESIGN 6)."""
