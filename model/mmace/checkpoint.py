"""Saving and loading: weights in safetensors, everything else as JSON in its header. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from mmace.config import PotentialConfig
from mmace.errors import UserError
from mmace.potential import Potential

FORMAT = "mmace-potential"
VERSION = 3

_UMASK = os.umask(0)
os.umask(_UMASK)


def _from_first_design(header: dict[str, Any]) -> dict[str, Any]:
    """Formats 1 and 2: two radial networks in the first layer, whose product no single one equals; other J_n."""
    raise UserError("made by an earlier design of the first layer, which has no counterpart in this one; train again")


# UPGRADES[v] takes a header of version v to version v + 1, or raises UserError where no file can be taken along.
UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_first_design, 2: _from_first_design}


def to_bytes(model: Potential, metadata: dict[str, Any] | None = None) -> bytes:
    """The checkpoint as bytes. ``metadata`` must be JSON-able."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    header = {
        "format": FORMAT,
        "version": str(VERSION),
        "config": json.dumps(model.config.to_dict(), sort_keys=True),
        "metadata": json.dumps(metadata or {}, sort_keys=True),
    }
    return _ordered(save_tensors(tensors, metadata=header))


def _ordered(data: bytes) -> bytes:
    """The same checkpoint with its header in a fixed order (safetensors draws one): same model, same bytes."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text + data[end:]


def model_hash(model: Potential) -> str:
    """Hash of configuration and weights (first 32 hex digits of SHA-256); metadata does not count."""
    digest = hashlib.sha256(json.dumps(model.config.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def write_atomically(path: Path, data: bytes) -> None:
    """Write to a temporary name in the same folder, flush to disk, rename. Raises UserError when that fails."""
    path = Path(path)
    handle = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o666 & ~_UMASK)  # mkstemp makes it private
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if handle is not None:
            Path(temporary).unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written ({error.strerror}); an older file is untouched") from error


def save(model: Potential, path: str | Path, metadata: dict[str, Any] | None = None) -> Path:
    """Write a checkpoint. Raises UserError when the file cannot be written; an older file is then untouched."""
    path = Path(path)
    write_atomically(path, to_bytes(model, metadata))
    return path


def _read_header(data: bytes, where: str) -> dict[str, Any]:
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except (ValueError, UnicodeDecodeError):
        header = {}
    if header.get("format") != FORMAT:
        raise UserError(f"{where}: not a checkpoint of this package; give a .safetensors file that mmace train wrote")
    version = int(header["version"])
    if version > VERSION:
        raise UserError(f"{where}: written by a newer version (format {version}, known {VERSION}); update mmace-flows")
    header = {"config": json.loads(header["config"]), "metadata": json.loads(header["metadata"]), "version": version}
    for step in range(version, VERSION):
        try:
            header = UPGRADES[step](header)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    return header


def from_bytes(data: bytes, where: str = "checkpoint") -> tuple[Potential, dict[str, Any]]:
    """The model and its metadata. Raises UserError when the bytes are not a checkpoint or are damaged."""
    header = _read_header(data, where)
    model = Potential(PotentialConfig.from_dict(header["config"], where))
    try:
        model.load_state_dict(load_tensors(data))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{where}: damaged or of another shape ({str(error).splitlines()[0]})") from error
    return model, header["metadata"]


def load(path: str | Path, device: str | torch.device = "cpu", head: str | None = None) -> Potential:
    """Load a potential; of one with several heads only ``head``, if that is given.

    Raises UserError when the file is missing, damaged or not a checkpoint, or has no such head.
    """
    model = load_with_metadata(path, device)[0]
    if head is None:
        return model
    from mmace.heads import head_number, single_head

    head_number(model.config, head, str(path))
    return single_head(model, head)


def load_with_metadata(path: str | Path, device: str | torch.device = "cpu") -> tuple[Potential, dict[str, Any]]:
    """Load a potential and the metadata stored beside it."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); give a .safetensors file that mmace train wrote"
        ) from error
    model, metadata = from_bytes(data, str(path))
    return model.to(device).eval(), metadata
