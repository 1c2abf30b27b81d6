"""Fixtures of the recovery tests: the shared platform, directly and through proxies that can kill and hold."""

from __future__ import annotations

from tests.support.fixtures import api_proxy, census, cli, factory, proxied, redis_proxy, steps

__all__ = ["api_proxy", "census", "cli", "factory", "proxied", "redis_proxy", "steps"]
