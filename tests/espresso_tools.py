"""When tests with pw.x run: wherever it and Debian's pseudopotentials are, and always in CI, which installs them."""

from __future__ import annotations

import os
import shutil

import pytest

from mmace_flows.labels.espresso_engine import EspressoEngine
from mmace_flows.labels.espresso_settings import EspressoSettings
from mmace_flows.labels.pseudopotentials import DEBIAN_FOLDER

# Debian's cheapest: eight valence electrons for Fe
FILES = {"Fe": "Fe.pbe-nd-rrkjus.UPF", "Ni": "Ni.pbe-nd-rrkjus.UPF", "Si": "Si.pbe-rrkj.UPF"}
CHEAP = {"cutoff": 340.0, "density_cutoff": 2720.0, "kpoints": (2, 2, 1), "smearing_width": 0.2}

espresso_there = pytest.mark.skipif(
    os.environ.get("CI") != "true" and (shutil.which("pw.x") is None or not DEBIAN_FOLDER.is_dir()),
    reason="Quantum ESPRESSO is not installed: apt-get install quantum-espresso quantum-espresso-data",
)


@pytest.fixture(scope="module")
def debian_files():
    """pw.x from PATH with Debian's pseudopotentials, whatever this machine's settings say."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMACE_PSEUDO_DIR", str(DEBIAN_FOLDER))
        patch.delenv("MMACE_ESPRESSO_COMMAND", raising=False)
        yield


def espresso(*elements: str, **changes) -> EspressoEngine:
    """A cheap engine for ``elements``; settings may be changed."""
    chosen = {**CHEAP, "pseudopotentials": {element: FILES[element] for element in elements}, **changes}
    return EspressoEngine.for_elements(EspressoSettings(**chosen), elements)
