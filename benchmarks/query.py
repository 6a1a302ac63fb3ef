"""How fast the table of materials answers: 100,000 synthetic entries in a real MongoDB, filtered and sorted pages.

    python benchmarks/query.py [--entries N] [--repeats R] [--json FILE] [--data-dir FOLDER]

Each question is asked as REST and command line ask it, through `mmace_flows.screening.table`: the rows of a
page, and the count of matches. Times are those of the whole call in this process, transfer and all, median and worst.
The plan is what `explain` says: index, keys and documents looked at. Exit code 1 if a plan reads the whole collection.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mmace_flows.execution.connection import disconnect
from mmace_flows.execution.settings import load_settings
from mmace_flows.execution.stores import open_stores
from mmace_flows.schemas.anisotropy_entry import AnisotropyEntry
from mmace_flows.screening.query import AnisotropyQuery
from mmace_flows.screening.table import count, find, find_page

METALS = ["Al", "Mn", "Fe", "Co", "Ni", "Y", "Pt"]
LIGHT = ["B", "C", "Si"]
ORDERINGS = ["NM", "FM", "AFM", "FiM", "non-collinear"]
SPACE_GROUPS = [(1, "P1"), (12, "C2/m"), (123, "P4/mmm"), (194, "P6_3/mmc"), (221, "Pm-3m"), (225, "Fm-3m")]

QUESTIONS: dict[str, dict[str, Any]] = {
    "no filter": {},
    "page 20": {"page": 20},
    "page 200": {"page": 200},
    "--elements Fe,Pt": {"elements": "Fe,Pt"},
    "--elements Fe,Pt --min-k1 1 --ordering FM --max-ehull 0.1": {
        "elements": "Fe,Pt", "min_k1": 1, "ordering": "FM", "max_ehull": 0.1,
    },
    "--elements Fe,Pt --ordering AFM --max-ehull 0.005 --level DFT": {
        "elements": "Fe,Pt", "ordering": "AFM", "max_ehull": 0.005, "level": "DFT",
    },
    "--any-of Fe,Co,Mn --exclude Pt,Y --min-ms 1": {"any_of": "Fe,Co,Mn", "exclude": "Pt,Y", "min_ms": 1},
    "--exclude Fe,Co,Mn,Ni --max-ehull 0.01": {"exclude": "Fe,Co,Mn,Ni", "max_ehull": 0.01},
    "--min-hardness 1 --max-ehull 0.02 --sort ehull": {"min_hardness": 1, "max_ehull": 0.02, "sort": "ehull"},
    "--formula FePt": {"formula": "FePt"},
    "--ordering FM --sort -ms": {"ordering": "FM", "sort": "-ms"},
    "--ordering AFM --min-k1 4 --sort -hardness": {"ordering": "AFM", "min_k1": 4, "sort": "-hardness"},
    "--space-group P4/mmm --min-k1 2 --sort ehull": {"space_group": "P4/mmm", "min_k1": 2, "sort": "ehull"},
    "--space-group Fm-3m --elements Y --ordering FiM --sort formula": {
        "space_group": "Fm-3m", "elements": "Y", "ordering": "FiM", "sort": "formula",
    },
    "--level DFT --sort -strength": {"level": "DFT", "sort": "-strength"},
    "--campaign c7 --max-atoms 4 --sort volume": {"campaign": "c7", "max_atoms": 4, "sort": "volume"},
    "--max-k1 -3 --sort k1": {"max_k1": -3, "sort": "k1"},
    "--min-k1 100 (nothing)": {"min_k1": 100},
    "--ordering NM --min-ms 1.9 --max-ehull 0.001 (hardly any)": {
        "ordering": "NM", "min_ms": 1.9, "max_ehull": 0.001,
    },
    "--sort updated --max-ms 0.2 --level model": {"sort": "updated", "max_ms": 0.2, "level": "model"},
}  # fmt: skip


def entry(random: np.random.Generator, number: int, systems: list[tuple[str, ...]]) -> dict[str, Any]:
    """An entry of the size of a real one."""
    elements = sorted(systems[random.integers(len(systems))])
    counts = random.integers(1, 4, size=len(elements))
    symbols = [element for element, many in zip(elements, counts, strict=True) for _ in range(many)]
    common = int(np.gcd.reduce(counts))
    formula = "".join(
        f"{element}{'' if many == common else many // common}" for element, many in zip(elements, counts, strict=True)
    )
    group, symbol = SPACE_GROUPS[random.integers(len(SPACE_GROUPS))]
    k1, polarization = float(random.normal(0.5, 2.0)), float(abs(random.normal(0.9, 0.5)))
    direction = random.normal(size=3)
    direction /= np.linalg.norm(direction)
    level = "DFT" if random.random() < 0.05 else "model"
    values = {
        "strength_mev_per_atom": abs(k1) * 0.08, "k1": k1, "k2": float(random.normal(0, 0.3)),
        "k1_mev_per_atom": k1 * 0.08, "k1_mev_per_formula": k1 * 0.2, "symmetry": "uniaxial",
        "easy": direction.tolist(), "hard": direction.tolist(), "axis": direction.tolist(), "easy_kind": "axis",
        "degree": 8, "coefficients": random.normal(size=44).tolist(), "fit_error": 1e-6, "spread": 0.1,
        "polarization": polarization, "anisotropy_field": 2.5 * k1 / polarization,
        "hardness": float(np.sqrt(abs(k1) * 4e-1 * np.pi) / polarization), "energy_per_atom": -6.0,
        "source": f"{number:032x}", "method": {"model": "m" * 32}, "created": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    atoms = len(symbols)
    return AnisotropyEntry(
        entry_id=f"{random.integers(2**63):016x}{number:016x}", parent=f"{number:032x}",
        ordering=ORDERINGS[random.choice(5, p=[0.1, 0.5, 0.25, 0.1, 0.05])],
        formula=formula, chemical_system="-".join(elements), elements=elements, num_elements=len(elements),
        num_atoms=atoms, space_group=symbol, space_group_number=group, crystal_system="any",
        volume_per_atom=float(random.uniform(9, 20)),
        structure={"symbols": symbols, "positions": random.normal(size=(atoms, 3)).tolist(),
                   "cell": random.normal(size=(3, 3)).tolist(), "magmoms": random.normal(size=(atoms, 3)).tolist()},
        magnetization=1.0, energy_above_hull=None if random.random() < 0.1 else float(random.exponential(0.15)),
        level=level, values=values, dft=values if level == "DFT" else None, model=values,
        campaigns=[f"c{random.integers(12)}"], code_version="0",
        updated=f"2026-{1 + number % 12:02d}-01T00:00:00+00:00",
    ).model_dump(mode="json")  # fmt: skip


def stages(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Every stage of a plan, the outermost first."""
    inner = [plan[name] for name in ("inputStage",) if name in plan] + plan.get("inputStages", [])
    return [plan, *(stage for one in inner for stage in stages(one))]


def examine(collection: Any, query: AnisotropyQuery, repeats: int) -> dict[str, Any]:
    """Times in ms and the plan of one question."""
    whole, counting = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        page = find_page(collection, query)
        whole.append(1000 * (time.perf_counter() - start))
        start = time.perf_counter()
        count(collection, query)
        counting.append(1000 * (time.perf_counter() - start))
    cursor = find(collection, query).skip(query.skip).limit(query.limit)
    said = cursor.explain()
    found = stages(said["executionStats"]["executionStages"])
    return {
        "total": page.total,
        "ms": statistics.median(whole),
        "worst_ms": max(whole),
        "count_ms": statistics.median(counting),
        "database_ms": said["executionStats"]["executionTimeMillis"],
        "keys": said["executionStats"]["totalKeysExamined"],
        "documents": said["executionStats"]["totalDocsExamined"],
        "index": ", ".join(sorted({one["indexName"] for one in found if "indexName" in one})),
        "sorts": any(one["stage"] == "SORT" for one in found),
        "scans_collection": any(one["stage"] == "COLLSCAN" for one in found),
    }


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, default=None, help="file for the figures")
    parser.add_argument("--data-dir", type=Path, default=None, help="folder to keep the database in [default: none]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mmace-bench-") as temporary:
        folder = arguments.data_dir or Path(temporary)
        os.environ["MMACE_DATA_DIR"] = str(folder)
        try:
            collection = open_stores(load_settings(data_dir=folder)).anisotropy._collection
            fill(collection, arguments.entries)
            results = {
                name: examine(collection, AnisotropyQuery(**filters), arguments.repeats)
                for name, filters in QUESTIONS.items()
            }
            size = collection.database.command("collStats", collection.name)
        finally:
            disconnect()
    print(f"{arguments.entries:,} entries, {size['size'] / 1e6:.0f} MB, indexes {size['totalIndexSize'] / 1e6:.0f} MB")
    print(f"{'question':<64}{'total':>7}{'ms':>7}{'worst':>7}{'count':>7}{'db':>5}{'keys':>8}{'docs':>7}  index")
    for name, one in results.items():
        print(
            f"{name:<64}{one['total']:>7}{one['ms']:>7.1f}{one['worst_ms']:>7.1f}{one['count_ms']:>7.1f}"
            f"{one['database_ms']:>5}{one['keys']:>8}{one['documents']:>7}  {one['index']}{' +sort' * one['sorts']}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    whole = [name for name, one in results.items() if one["scans_collection"]]
    if whole:
        print(f"read the whole collection: {', '.join(whole)}", file=sys.stderr)
    return 1 if whole else 0


def fill(collection: Any, entries: int) -> None:
    """Add what is missing to the number of entries."""
    there = collection.estimated_document_count()
    systems = [(metal,) for metal in METALS]
    for many in (2, 3):
        systems += list(combinations(METALS, many))
    systems += [(*system, light) for system in systems for light in LIGHT]
    random = np.random.default_rng(there)
    for begin in range(there, entries, 2000):
        batch = [entry(random, number, systems) for number in range(begin, min(begin + 2000, entries))]
        collection.insert_many(batch)
        print(f"\rentry {begin + len(batch):,} of {entries:,}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
