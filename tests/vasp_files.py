"""VASP's output by hand, as small as pymatgen can read it; and a program that stands in for VASP."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PROGRAM = """#!{python}
import sys
sys.path.insert(0, {folder!r})
from vasp_files import main
main()
"""


POTCARS = {"Fe": "Fe_pv", "Ni": "Ni"}
ITERATIONS = 6  # that the stand-in takes


def install(folder: Path, names: tuple[str, ...] = ("vasp_std", "vasp_ncl")) -> None:
    """The stand-in as programs in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(PROGRAM.format(python=sys.executable, folder=str(Path(__file__).parent)))
        (folder / name).chmod(0o755)


def potcar(folder: Path, symbol: str, functional: str = "POT_GGA_PAW_PBE_54", note: str = "made for tests") -> None:
    """A file that has what is asked of a POTCAR, and no potential."""
    element = symbol.split("_")[0]
    place = folder / functional / symbol
    place.mkdir(parents=True, exist_ok=True)
    (place / "POTCAR").write_text(
        f"  PAW_PBE {symbol} 01Jan2000\n   8.0\n parameters from PSCTR are:\n   VRHFIN ={element}: {note}\n"
        f"   LEXCH  = PE\n   TITEL  = PAW_PBE {symbol} 01Jan2000\n   ENMAX  =  267.882; ENMIN  =  200.911 eV\n"
        "   ZVAL   =    8.000\n END of PSCTR-controll parameters\n local part\n   1.0 2.0 3.0\n"
        " gradient corrections used for XC\n 5\n core charge-density (partial)\n   0.1 0.2 0.3\n\n"
        " Reciprocal Space Part\n   0.5 0.6\n End of Dataset\n"
    )


@pytest.fixture(scope="module")
def vasp_stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A machine with a VASP that is none, and POTCARs of Fe and Ni that are none."""
    import pymatgen.io.vasp.inputs as inputs

    folder = tmp_path_factory.mktemp("vasp")
    install(folder / "bin")
    for symbol in POTCARS.values():
        potcar(folder / "pseudo", symbol)
    with pytest.MonkeyPatch.context() as patch:
        # atomate2 reads its settings once, when it is imported: what it has by then is found on PATH
        patch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("ATOMATE2_VASP_CMD", str(folder / "bin" / "vasp_std"))
        patch.setenv("ATOMATE2_VASP_NCL_CMD", str(folder / "bin" / "vasp_ncl"))
        patch.setitem(inputs.SETTINGS, "PMG_VASP_PSP_DIR", str(folder / "pseudo"))
        yield folder


def _rows(name: str, rows: Any) -> str:
    lines = "".join(f"<v> {' '.join(f'{part:.8f}' for part in row)} </v>" for row in np.atleast_2d(rows))
    return f'<varray name="{name}">{lines}</varray>'


def _tags(tags: dict[str, Any]) -> str:
    def one(key: str, value: Any) -> str:
        if isinstance(value, bool):
            return f'<i type="logical" name="{key}"> {"T" if value else "F"} </i>'
        if isinstance(value, int):
            return f'<i type="int" name="{key}"> {value} </i>'
        if isinstance(value, float):
            return f'<i name="{key}"> {value:.8f} </i>'
        if isinstance(value, str):
            return f'<i type="string" name="{key}"> {value} </i>'
        return f'<v name="{key}"> {" ".join(f"{part:.6f}" for part in value)} </v>'

    return "".join(one(key, value) for key, value in tags.items())


def write_output(
    folder: Path,
    symbols: list[str],
    cell: Any,
    scaled: Any,
    *,
    energies: list[tuple[float, float, float]],  # of each iteration: free energy, without entropy, sigma -> 0
    forces: Any,
    kilobar: Any,
    moments: Any = None,  # [N] or [N,3]
    total: float | None = None,
    incar: dict[str, Any] | None = None,
    grid: tuple[int, int, int] = (2, 2, 2),
    version: str = "6.4.2",
) -> None:
    """vasprun.xml, OUTCAR, OSZICAR and CONTCAR of a static run."""
    folder.mkdir(parents=True, exist_ok=True)
    incar = {"NELM": 60, "EDIFF": 1e-4, "NSW": 0, "IBRION": -1, **(incar or {})}
    steps = "".join(
        f'<scstep><energy><i name="e_fr_energy">{free:.8f}</i><i name="e_wo_entrp">{without:.8f}</i>'
        f'<i name="e_0_energy">{zero:.8f}</i></energy></scstep>'
        for free, without, zero in energies
    )
    spins = 2 if np.ndim(moments) == 1 and moments is not None else 1
    spin = "".join(
        f'<set comment="spin {number}"><set comment="kpoint 1"><r> 1.0 1.0 </r><r> 9.0 0.0 </r></set></set>'
        for number in range(1, spins + 1)
    )
    bands = f"<eigenvalues><array><set>{spin}</set></array></eigenvalues>"
    kinds = list(dict.fromkeys(symbols))
    atoms = "".join(f"<rc><c>{symbol}</c><c>{kinds.index(symbol) + 1}</c></rc>" for symbol in symbols)
    types = "".join(
        f"<rc><c>{symbols.count(kind)}</c><c>{kind}</c><c>50.0</c><c>8.0</c><c>PAW_PBE {kind} 01Jan2000</c></rc>"
        for kind in kinds
    )
    structure = f"<crystal>{_rows('basis', cell)}</crystal>{_rows('positions', scaled)}"
    free = energies[-1][0]
    # behind the iterations VASP writes energies again, which mean something else from version to version: nonsense here
    nonsense = '<energy><i name="e_fr_energy">1.0</i><i name="e_wo_entrp">1.0</i><i name="e_0_energy">1.0</i></energy>'
    (folder / "vasprun.xml").write_text(
        '<?xml version="1.0" encoding="ISO-8859-1"?><modeling><generator><i name="program" type="string">vasp </i>'
        f'<i name="version" type="string">{version} </i></generator><incar>{_tags(incar)}</incar>'
        f'<kpoints><generation param="Gamma"><v type="int" name="divisions"> {" ".join(map(str, grid))} </v>'
        "</generation>"
        f"{_rows('kpointlist', [[0, 0, 0]])}{_rows('weights', [[1.0]])}</kpoints>"
        f"<parameters>{_tags({**incar, 'ISPIN': incar.get('ISPIN', 2)})}</parameters>"
        f'<atominfo><array name="atoms"><set>{atoms}</set></array><array name="atomtypes"><set>{types}</set></array>'
        f'</atominfo><structure name="initialpos">{structure}</structure><calculation>{steps}'
        f"<structure>{structure}</structure>{_rows('forces', forces)}{_rows('stress', kilobar)}{nonsense}"
        f"{bands}</calculation>"
        f'<structure name="finalpos">{structure}</structure></modeling>'
    )
    text = f" vasp.{version}\n running on    1 total cores\n"
    text += (
        "   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1   number of bands    NBANDS=     16\n"
    )
    text += "   total plane-waves  NPLWV =   1000\n   IBRION =     -1\n"
    text += f" number of electron      16.0000000 magnetization  {0.0 if total is None else total:14.7f}\n"
    text += f"  free  energy   TOTEN  =  {free:.8f} eV\n E-fermi :   5.0000\n"
    if moments is not None:
        for letter, column in zip("xyz", np.atleast_2d(np.asarray(moments, dtype=float).T), strict=False):
            text += f"\n magnetization ({letter})\n\n# of ion       s       p       d       tot\n" + "-" * 42 + "\n"
            text += "".join(f"{i:5d}{0.0:10.3f}{0.0:8.3f}{m:8.3f}{m:8.3f}\n" for i, m in enumerate(column, 1))
            text += "-" * 42 + f"\ntot{0.0:12.3f}{0.0:8.3f}{sum(column):8.3f}{sum(column):8.3f}\n"
    (folder / "OUTCAR").write_text(text + "\n Total CPU time used (sec):  1.0\n")
    lines = "".join(f"RMM: {i:3d}  {one[0]:.8E}  0.0E+00 0.0E+00 1 0.1E-1\n" for i, one in enumerate(energies, 1))
    (folder / "OSZICAR").write_text(
        f"       N       E                     dE             d eps       ncg     rms          rms(c)\n{lines}"
        f"   1 F= {free:.8E} E0= {energies[-1][2]:.8E}  d E =0.0E+00  mag= {total or 0.0:.4f}\n"
    )
    (folder / "CONTCAR").write_text((folder / "POSCAR").read_text() if (folder / "POSCAR").exists() else "\n")


def energy_of(positions: np.ndarray, moments: np.ndarray) -> float:
    """The stand-in's free energy, eV: springs to the middle of the atoms, and −0.1 eV/μB² for every moment."""
    return float(-8.0 * len(positions) + 0.5 * np.sum(forces_of(positions) ** 2) - 0.1 * np.sum(moments**2))


def forces_of(positions: np.ndarray) -> np.ndarray:
    """Forces [N,3] that belong to it, eV/Å."""
    return np.asarray(positions.mean(axis=0) - positions)


def main() -> None:
    """The stand-in: reads INCAR, POSCAR and KPOINTS, shrinks moments to 0.9 of their start, writes its output."""
    here = Path.cwd()
    tags = dict(
        (part.strip() for part in line.split("=", 1))
        for line in (here / "INCAR").read_text().splitlines()
        if "=" in line
    )
    lines = (here / "POSCAR").read_text().splitlines()
    cell = np.array([[float(part) for part in line.split()] for line in lines[2:5]])
    counts = [int(part) for part in lines[6].split()]
    symbols = [kind for kind, count in zip(lines[5].split(), counts, strict=True) for _ in range(count)]
    scaled = np.array([[float(part) for part in line.split()[:3]] for line in lines[8 : 8 + len(symbols)]])
    starts: list[float] = []
    for word in tags.get("MAGMOM", "").split():
        count, _, value = word.rpartition("*")
        starts += [float(value)] * int(count or 1)
    vectors = tags.get("LNONCOLLINEAR", "F").lower().startswith(("t", ".t"))
    moments = 0.9 * np.array(starts) if starts else None
    if moments is not None and vectors:
        moments = moments.reshape(len(symbols), 3)
    positions = scaled @ cell
    free = energy_of(positions, np.zeros(1) if moments is None else moments)
    nelm = int(tags["NELM"])
    fails = nelm < ITERATIONS
    count = min(nelm, ITERATIONS)
    write_output(
        here, symbols, cell, scaled,
        energies=[(free + 0.5 ** (i + 3) * (i < count - 1 or fails), free + 0.04, free + 0.02) for i in range(count)],
        forces=forces_of(positions), kilobar=np.diag([10.0, 10.0, 20.0]), moments=moments,
        total=None if moments is None or vectors else float(moments.sum()),
        incar={
            "NELM": nelm, **{tag: float(tags[tag]) for tag in ("EDIFF", "ENCUT", "SIGMA")},
            "ISMEAR": int(tags["ISMEAR"]),
            "LNONCOLLINEAR": vectors, "LSORBIT": tags.get("LSORBIT", "F").lower().startswith("t"), "NSW": 0,
            "ALGO": tags["ALGO"],
        },
        grid=tuple(int(part) for part in (here / "KPOINTS").read_text().splitlines()[3].split()),  # type: ignore[arg-type]
    )  # fmt: skip
    print("fake vasp has run")
