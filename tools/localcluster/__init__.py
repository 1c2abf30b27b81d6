"""A Kubernetes cluster on this machine, without root and without a container engine, for demo, tests and people.

One supervisor process per cluster owns every other process and the directory; both are gone when it ends.
"""

from __future__ import annotations

from tools.localcluster.cluster import LocalCluster, prepare
from tools.localcluster.models import ClusterError, ClusterSpec, RedisEndpoint

__all__ = ["ClusterError", "ClusterSpec", "LocalCluster", "RedisEndpoint", "prepare"]
