"""Sets of directions on the sphere: where moments point in a run with spin–orbit coupling."""

from __future__ import annotations

import numpy as np

from mmace.errors import UserError, unknown_key_message

# degree of the harmonics that a rule integrates exactly → number of its points
LEBEDEV = {
    3: 6, 5: 14, 7: 26, 9: 38, 11: 50, 13: 74, 15: 86, 17: 110, 19: 146, 21: 170, 23: 194, 25: 230, 27: 266, 29: 302,
    31: 350, 35: 434, 41: 590, 47: 770, 53: 974, 59: 1202, 65: 1454, 71: 1730, 77: 2030,
}  # fmt: skip
KINDS = ("lebedev", "fibonacci", "random")


def directions(text: str) -> np.ndarray:
    """Unit vectors [D,3] of a set: ``lebedev:50``, ``fibonacci:200``, ``random:2000`` or ``random:2000:SEED``.

    Lebedev's sets hold each direction with its opposite and integrate harmonics up to a degree exactly, which is what a
    smooth energy surface needs. Fibonacci's spiral is even, and random directions are uniform on the sphere.
    Raises UserError for an unknown set or a number of points that it cannot have.
    """
    kind, _, rest = text.partition(":")
    if kind not in KINDS:
        raise UserError(unknown_key_message(kind, KINDS, f"directions '{text}'"))
    numbers = rest.split(":") if rest else []
    allowed = 2 if kind == "random" else 1
    if not 1 <= len(numbers) <= allowed or not all(number.isdigit() for number in numbers) or int(numbers[0]) < 1:
        seed = "[:SEED]" if kind == "random" else ""
        raise UserError(f"directions '{text}': write {kind}:NUMBER{seed}, for example {kind}:50")
    count = int(numbers[0])
    if kind == "lebedev":
        return _lebedev(count)
    if kind == "fibonacci":
        return _fibonacci(count)
    vectors = np.random.default_rng(int(numbers[1]) if len(numbers) == 2 else 0).normal(size=(count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def angles(vectors: np.ndarray) -> np.ndarray:
    """[D,2] θ from z and φ from x, degrees, of unit vectors [D,3]; φ in [0, 360)."""
    x, y, z = np.asarray(vectors, dtype=float).T
    return np.column_stack([np.degrees(np.arccos(np.clip(z, -1.0, 1.0))), np.degrees(np.arctan2(y, x)) % 360.0])


def from_angles(theta: float, phi: float) -> np.ndarray:
    """Unit vector [3] of θ from z and φ from x, degrees."""
    polar, azimuth = np.radians(theta), np.radians(phi)
    return np.array([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)])


def opposite_pairs(vectors: np.ndarray, tolerance: float = 1e-6) -> np.ndarray:
    """[P,2] indices of directions that are each other's opposite, the smaller index first."""
    close = np.linalg.norm(vectors[:, None] + vectors[None], axis=2) < tolerance
    pairs = np.argwhere(close)
    return pairs[pairs[:, 0] < pairs[:, 1]]


def _lebedev(count: int) -> np.ndarray:
    from scipy.integrate import lebedev_rule

    for degree, points in LEBEDEV.items():
        if points == count:
            return np.ascontiguousarray(lebedev_rule(degree)[0].T)
    sizes = list(LEBEDEV.values())
    around = [
        max([s for s in sizes if s < count], default=sizes[0]),
        min([s for s in sizes if s > count], default=sizes[-1]),
    ]
    raise UserError(
        f"directions 'lebedev:{count}': no such rule; there are {' and '.join(map(str, sorted(set(around))))} points"
    )


def _fibonacci(count: int) -> np.ndarray:
    number = np.arange(count) + 0.5
    z = 1.0 - 2.0 * number / count
    azimuth = np.pi * (1.0 + np.sqrt(5.0)) * number
    radius = np.sqrt(1.0 - z * z)
    return np.column_stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z])
