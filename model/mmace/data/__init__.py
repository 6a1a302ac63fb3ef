"""Labelled structures in files of every known format: read, checked, described, split, written.

>>> from mmace.data import ReadOptions, iterate
>>> for configuration in iterate("train.cfg", ReadOptions(elements=("Al", "Fe"))):  # doctest: +SKIP
...     print(configuration.name, configuration.energy)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmace.lazy import importer

if TYPE_CHECKING:
    from mmace.data.check import DataReport, check_files
    from mmace.data.registry import FORMATS, format_of, iterate
    from mmace.data.source import Notes, ReadOptions
    from mmace.data.split import SplitSettings, assign
    from mmace.data.writing import open_writer

_HOMES = {
    "DataReport": "check",
    "FORMATS": "registry",
    "Notes": "source",
    "ReadOptions": "source",
    "SplitSettings": "split",
    "assign": "split",
    "check_files": "check",
    "format_of": "registry",
    "iterate": "registry",
    "open_writer": "writing",
}

__all__ = [
    "FORMATS",
    "DataReport",
    "Notes",
    "ReadOptions",
    "SplitSettings",
    "assign",
    "check_files",
    "format_of",
    "iterate",
    "open_writer",
]

__getattr__ = importer(__name__, _HOMES)
