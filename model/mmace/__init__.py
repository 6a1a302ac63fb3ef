"""mMACE: an equivariant message-passing potential in which atomic magnetic moments are inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmace.lazy import importer

if TYPE_CHECKING:
    from mmace.calculator import MagneticCalculator
    from mmace.checkpoint import from_bytes, load, model_hash, save, to_bytes
    from mmace.config import PotentialConfig
    from mmace.graph import Graph, build_graph, collate
    from mmace.potential import Potential

_HOMES = {
    "MagneticCalculator": "calculator",
    "from_bytes": "checkpoint",
    "load": "checkpoint",
    "model_hash": "checkpoint",
    "save": "checkpoint",
    "to_bytes": "checkpoint",
    "PotentialConfig": "config",
    "Graph": "graph",
    "build_graph": "graph",
    "collate": "graph",
    "Potential": "potential",
}

__all__ = [
    "Graph",
    "MagneticCalculator",
    "Potential",
    "PotentialConfig",
    "build_graph",
    "collate",
    "from_bytes",
    "load",
    "model_hash",
    "save",
    "to_bytes",
]

__getattr__ = importer(__name__, _HOMES)
