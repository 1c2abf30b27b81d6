"""The Kubernetes API, through the official client's connection and raw paths.

The typed classes of that client cost half a second to import and are not used (DESIGN 10).
"""
