"""Measure GPAW settings for the small FeNi preset: seconds per job, and energies against tighter settings.

    python benchmarks/gpaw_small_preset.py              # the chosen settings and their neighbours: 40 min of a core
    python benchmarks/gpaw_small_preset.py --quick      # the chosen settings alone: 3 min
    python benchmarks/gpaw_small_preset.py --reference  # with an 8×8×4 reference: 10 min more

Set OMP_NUM_THREADS=1, for the campaign runs two jobs side by side with one thread each. Seconds are CPU time of the
process, so that a busy machine changes them little. Energies are free energies per atom. The last two columns hold the
pressure as the derivative of energies by volume against the one from the stress: ``cutoff_slope`` makes them agree.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from ase.units import GPa
from rich.console import Console
from rich.table import Table

from mmace_flows.labels.engine import EngineResult
from mmace_flows.labels.gpaw_engine import GPAWEngine
from mmace_flows.labels.gpaw_settings import GPAWSettings, MixerSettings
from mmace_flows.schemas.structure import MagneticState, MagneticStructure
from mmace_flows.structures.base_cells import FCC_RATIO, FENI_VOLUME_PER_ATOM, bain_structure
from mmace_flows.structures.distort import DistortSettings, distort

STATES: tuple[MagneticState, ...] = ("NM", "FM", "AFM")
RATIOS = {"bcc": 1.0, "fcc": FCC_RATIO}
DISTORTED = 1.2  # c/a of the distorted cell

TRIALS: dict[str, GPAWSettings] = {
    "small": GPAWSettings.small(),
    "looser convergence": GPAWSettings.small(density_convergence=1e-3, eigenstates_convergence=1e-6),
    "PPCG": GPAWSettings.small(eigensolver="ppcg"),
    "3×3×2": GPAWSettings.small(kpoints=(3, 3, 2)),
    "3×3×2 with Γ": GPAWSettings.small(kpoints=(3, 3, 2), gamma=True),
    "4×4×2 with Γ": GPAWSettings.small(kpoints=(4, 4, 2), gamma=True),
    "0.2 eV smearing": GPAWSettings.small(smearing_width=0.2),
    "340 eV": GPAWSettings.small(cutoff=340.0),
    "400 eV": GPAWSettings.small(cutoff=400.0),
    "Ni with 10 electrons": GPAWSettings.small(setups={"Ni": "10"}, bands=26),
    "Pulay mixing": GPAWSettings.small(mixer=MixerSettings(name="pulay", beta=0.1, history=8)),
}
REFERENCE = GPAWSettings.small(kpoints=(8, 8, 4), cutoff=400.0)


def structures(distorted: bool) -> dict[tuple[str, MagneticState], MagneticStructure]:
    """The cells that are timed: both ends of the path in each state, and one distorted cell in each state."""
    cells = {
        (name, state): bain_structure(FENI_VOLUME_PER_ATOM, ratio, state)
        for name, ratio in RATIOS.items()
        for state in STATES
    }
    if distorted:
        still = DistortSettings(volume_scale=(1.0, 1.0))
        for state in STATES:
            parent = bain_structure(FENI_VOLUME_PER_ATOM, DISTORTED, state)
            cells["distorted", state] = distort(parent, seed=1, settings=still).structure
    return cells


def measure(
    settings: GPAWSettings, folder: Path, distorted: bool = True
) -> dict[tuple[str, str], tuple[EngineResult, float]]:
    """Result and CPU seconds of every cell."""
    results = {}
    for (name, state), structure in structures(distorted).items():
        started = time.process_time()
        result = GPAWEngine(settings).run(structure, folder, name=f"{name}-{state}")
        results[name, state] = result, time.process_time() - started
    return results


def pressures(settings: GPAWSettings, folder: Path) -> tuple[float, float]:
    """Pressure of non-magnetic bcc from energies at two volumes, and from the stress between them, eV/Å³."""
    step = 0.02
    volumes = [FENI_VOLUME_PER_ATOM * (1 + change) for change in (-step, 0.0, step)]
    results = [GPAWEngine(settings).run(bain_structure(volume, 1.0, "NM"), folder) for volume in volumes]
    low, middle, high = results
    if low.free_energy is None or high.free_energy is None or middle.stress is None:
        return np.nan, np.nan
    from_energies = -(high.free_energy - low.free_energy) / 4 / (volumes[2] - volumes[0])
    return from_energies, -float(np.trace(middle.stress)) / 3


def row(results: dict[tuple[str, str], tuple[EngineResult, float]]) -> list[str]:
    """Seconds (iterations) per job, then energies in meV per atom."""
    kinds = [("bcc", "sym."), ("distorted", "dist.")]
    cells = []
    for kind, _ in kinds:
        for state in STATES:
            found = results.get((kind, state))
            cells.append("–" if found is None else f"{found[1]:.0f} ({found[0].scf_iterations or 'fails'})")

    def energy(kind: str, state: str) -> float:
        free = results[kind, state][0].free_energy
        return np.nan if free is None else 1000.0 * free / 4

    for kind in RATIOS:
        cells += [f"{energy(kind, state) - energy(kind, 'FM'):+.0f}" for state in ("NM", "AFM")]
    cells.append(f"{energy('bcc', 'FM') - energy('fcc', 'FM'):+.0f}")
    return cells


def table(rows: Iterable[tuple[str, list[str]]]) -> Table:
    """The table as it is printed."""
    made = Table(title="GPAW, FeNi, 4 atoms: CPU seconds (SCF iterations), free energies in meV per atom")
    headers = ["settings", *(f"{state} {kind}" for kind in ("sym.", "dist.") for state in STATES)]
    headers += [f"{name} {state}−FM" for name in RATIOS for state in ("NM", "AFM")] + [
        "FM bcc−fcc",
        "P from E",
        "P from stress",
    ]
    for header in headers:
        made.add_column(header, justify="left" if header == "settings" else "right")
    for name, cells in rows:
        made.add_row(name, *cells)
    return made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the chosen settings alone")
    parser.add_argument("--reference", action="store_true", help="the 8×8×4 reference too")
    parser.add_argument("--only", nargs="*", default=None, help=f"some of: {', '.join(TRIALS)}")
    arguments = parser.parse_args()
    names = ["small"] if arguments.quick else (arguments.only or list(TRIALS))
    console, rows = Console(width=220), []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            found = [f"{pressure / GPa:.1f} GPa" for pressure in pressures(TRIALS[name], Path(folder))]
            rows.append((name, row(measure(TRIALS[name], Path(folder))) + found))
            console.print(f"{name}: {' | '.join(rows[-1][1])}")
        if arguments.reference:
            rows.append(("reference 8×8×4, 400 eV", row(measure(REFERENCE, Path(folder), distorted=False))))
    console.print(table(rows))


if __name__ == "__main__":
    main()
