"""The manager's own parts."""

from __future__ import annotations

from enum import StrEnum


class Loop(StrEnum):
    """The manager's background loops."""

    MIRROR = "mirror"
    GATE = "gate"
    GUARD = "guard"
    SWEEP = "sweep"
    DISPATCH = "dispatch"
    RECONCILE = "reconcile"
    LIFETIME = "lifetime"
    CENSUS = "census"


class Dependency(StrEnum):
    """What the manager needs."""

    REDIS = "redis"
    CLUSTER = "cluster"
    WATCH = "watch"
