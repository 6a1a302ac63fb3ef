"""The one list of field names: what each quantity is called, its shape, its unit, and its extended-XYZ key.

Shapes: N atoms, S structures. All moments are vectors in the lab frame, in μB, everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """One physical quantity as every file, batch and document names it."""

    name: str
    shape: str
    unit: str
    key: str  # key in extended XYZ files
    doc: str


ENERGY = Field("energy", "[S]", "eV", "REF_energy", "total energy")
FORCES = Field("forces", "[N,3]", "eV/Å", "REF_forces", "−∂E/∂r")
STRESS = Field("stress", "[S,3,3]", "eV/Å³", "REF_stress", "(1/V) ∂E/∂strain, ASE's sign")
MAGMOMS = Field("magmoms", "[N,3]", "μB", "REF_magmom", "atomic magnetic moments, an input")
MAGNETIC_FORCES = Field("magnetic_forces", "[N,3]", "eV/μB", "REF_magforces", "−∂E/∂m")

FIELDS = {field.name: field for field in (ENERGY, FORCES, STRESS, MAGMOMS, MAGNETIC_FORCES)}
LABELS = (ENERGY, FORCES, STRESS, MAGNETIC_FORCES)

BRANCHES = ("NM", "FM", "AFM", "non-collinear")  # classes of magnetic states that errors are reported for
