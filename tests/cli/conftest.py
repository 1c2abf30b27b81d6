"""Fixtures of the tests of the command line."""

from __future__ import annotations

from tests.support.fixtures import api_proxy, census, cli, factory, proxied, redis_proxy, steps

__all__ = ["api_proxy", "census", "cli", "factory", "proxied", "redis_proxy", "steps"]
