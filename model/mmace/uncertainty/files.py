"""Uncertainties on disk: safetensors beside the model, tied to it by its hash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from mmace.checkpoint import model_hash, write_atomically
from mmace.errors import UserError
from mmace.potential import Potential
from mmace.uncertainty.calibration import Calibration
from mmace.uncertainty.last_layer import LastLayer

FORMAT = "mmace-uncertainty"
VERSION = 1


def save_uncertainty(uncertainty: LastLayer, path: str | Path, metadata: dict[str, Any] | None = None) -> Path:
    """Write an uncertainty. ``metadata`` must be JSON-able. Raises UserError when the file cannot be written."""
    header = {
        "format": FORMAT,
        "version": str(VERSION),
        "kind": "last-layer",
        "model_hash": model_hash(uncertainty.model),
        "calibration": json.dumps(uncertainty.calibration.to_dict()),
        "ridge": repr(uncertainty.ridge),
        "num_structures": str(uncertainty.num_structures),
        "metadata": json.dumps(metadata or {}, sort_keys=True),
    }
    path = Path(path)
    tensors = {"whitening": uncertainty.whitening.cpu().contiguous()}
    write_atomically(path, save_tensors(tensors, metadata=header))
    return path


def load_uncertainty(path: str | Path, model: Potential) -> LastLayer:
    """Read the uncertainty of ``model``. Raises UserError for a file that is missing, damaged, of another kind, or made
    for another model."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    header = _header(data)
    if header.get("format") != FORMAT:
        raise UserError(f"{path}: not an uncertainty; give the .safetensors file that `mmace uncertainty fit` wrote")
    if int(header["version"]) > VERSION:
        raise UserError(f"{path}: written by a newer version (format {header['version']}); update mmace-flows")
    if header["model_hash"] != model_hash(model):
        raise UserError(
            f"{path}: made for the model {header['model_hash']}, this one is {model_hash(model)}; "
            f"fit it again with `mmace uncertainty fit`"
        )
    try:
        tensors = load_tensors(data)
    except SafetensorError as error:
        raise UserError(f"{path}: damaged ({str(error).splitlines()[0]})") from error
    return LastLayer(
        model,
        tensors["whitening"],
        Calibration(**json.loads(header["calibration"])),
        float(header["ridge"]),
        int(header["num_structures"]),
    )


def _header(data: bytes) -> dict[str, str]:
    try:
        return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    except (ValueError, UnicodeDecodeError, AttributeError):
        return {}
