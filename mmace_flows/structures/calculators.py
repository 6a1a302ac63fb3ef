"""ASE calculators by name: what random structures are relaxed with, and what Metropolis walks are driven by."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from mmace.errors import UserError, unknown_key_message

NAMES = ("chgnet", "emt")
CHGNET_VERSION = "0.3.0"
MISSING_CHGNET = "calculator 'chgnet' is not installed; pip install 'mmace-flows[search]', or choose another calculator"


def make_calculator(name: str) -> Any:
    """An ASE calculator.

    Parameters: ``name`` "chgnet" (a general potential that also predicts |m|), "emt" (ASE's, for tests), a checkpoint
    FILE.safetensors of this project (moments held as the structures have them), or "package.module:Class", called
    without arguments.
    Raises UserError for anything else, and where the package is not installed.
    """
    if name == "chgnet":
        return _chgnet()
    if name == "emt":
        from ase.calculators.emt import EMT

        return EMT()
    if name.endswith(".safetensors"):
        from mmace import MagneticCalculator

        if not Path(name).is_file():
            raise UserError(f"{name}: no such file; give a checkpoint that `mmace train` wrote")
        return MagneticCalculator(name, moments="fixed")
    module, colon, attribute = name.partition(":")
    if not colon:
        hint = unknown_key_message(name, NAMES, "calculator").replace("unknown setting", "unknown calculator")
        raise UserError(f"{hint}; or give FILE.safetensors, or package.module:Class")
    try:
        return getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"calculator '{name}' cannot be made ({error}); give package.module:Class of ASE") from error


def has_chgnet() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("chgnet") is not None


def _chgnet() -> Any:
    """CHGNet with the weights of its own wheel. They are plain tensors: nothing is unpickled, nothing is fetched."""
    if not has_chgnet():
        raise UserError(MISSING_CHGNET)
    import torch

    with contextlib.redirect_stdout(io.StringIO()):  # it says hello
        import chgnet
        from chgnet.model import CHGNet
        from chgnet.model.dynamics import CHGNetCalculator

        folder = Path(str(chgnet.__file__)).parent / "pretrained" / CHGNET_VERSION
        found = sorted(folder.glob("*.pth.tar"))
        if not found:
            raise UserError(f"chgnet: its package has no weights of version {CHGNET_VERSION}; install chgnet 0.4.2")
        state = torch.load(found[0], map_location="cpu", weights_only=True)
        warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad")
        model = CHGNet.from_dict(state["model"], mlp_out_bias=False, version=CHGNET_VERSION)
        return CHGNetCalculator(model, use_device="cpu", on_isolated_atoms="error")


def predicted_lengths(calculator: Any, count: int) -> np.ndarray | None:
    """[count] |m| in μB of the last calculation, or None where the calculator has no moments of its own.

    This project's potential takes moments and does not predict them, so it counts as having none.
    """
    moments = calculator.results.get("magmoms")
    if moments is None or "magnetic_forces" in calculator.results:
        return None
    array = np.asarray(moments, dtype=float)
    lengths = np.abs(array).reshape(-1) if array.ndim == 1 else np.linalg.norm(array, axis=-1)
    return lengths if lengths.shape == (count,) and np.isfinite(lengths).all() else None
