"""Per-user AI workspaces on Kubernetes that sleep for free and wake on a message."""

__version__ = "0.1.0"
