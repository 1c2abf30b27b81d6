"""The container images, built without a registry and without a container engine: root and buildah are enough."""

from __future__ import annotations

from tools.images.building import ensure_images
from tools.images.recipes import NAMES, TOOLS, reference

__all__ = ["NAMES", "TOOLS", "ensure_images", "reference"]
