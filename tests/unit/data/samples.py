"""Configurations for tests of files: random ones for round trips, and one of each label for looking at."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from mmace.train import Configuration

LABELS = ("energy", "forces", "stress", "magnetic_forces")


def sample(seed: int = 0, count: int = 2, labels: tuple[str, ...] = LABELS, **changes) -> Configuration:
    """``count`` Fe and Ni atoms, well apart, with numbers that need all their digits."""
    generator = np.random.default_rng(seed)
    cell = np.diag([2.9, 2.9, 2.9 * count]) + generator.normal(scale=0.05, size=(3, 3))
    fractions = np.column_stack([np.zeros((count, 2)), (np.arange(count) + 0.1) / count])
    stress = generator.normal(scale=0.02, size=(3, 3))
    values = {
        "energy": float(generator.normal(-8.0 * count, 0.1)),
        "forces": generator.normal(size=(count, 3)),
        "stress": stress + stress.T,
        "magnetic_forces": generator.normal(scale=0.1, size=(count, 3)),
    }
    arguments = {
        "numbers": [26, 28] * (count // 2) + [26] * (count % 2),
        "positions": fractions @ cell + generator.normal(scale=0.02, size=(count, 3)),
        "cell": cell,
        "pbc": True,
        "magmoms": generator.normal(size=(count, 3)),
        **{name: values[name] for name in labels},
        **changes,
    }
    return Configuration(**arguments)


@st.composite
def configurations(draw, periodic: bool | None = None) -> Configuration:
    """Any composition, labels present or not, periodic or (unless ``periodic``) not."""
    labels = tuple(name for name in LABELS if draw(st.booleans()))
    changes = {}
    if not (periodic or draw(st.booleans())):
        labels = tuple(name for name in labels if name != "stress")
        changes = {"pbc": False, "cell": draw(st.sampled_from([np.zeros((3, 3)), 20 * np.eye(3)]))}
    return sample(draw(st.integers(0, 10**6)), draw(st.integers(1, 5)), labels, **changes)


def same(one: Configuration, other: Configuration, digits: int | None = None) -> None:
    """Asserts that two configurations hold the same; every digit, unless ``digits`` says how many of derived ones."""
    for name in ("numbers", "positions", "cell", "pbc", "magmoms", "head", "weight", *LABELS):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        if a is None:
            continue
        if digits is not None and name == "stress":
            np.testing.assert_allclose(a, b, rtol=10.0**-digits, atol=10.0**-digits)
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)


def written(path, configurations, format=None, **options):
    """``path`` after the configurations were written to it."""
    from mmace.data import open_writer

    with open_writer(path, format, **options) as writer:
        for configuration in configurations:
            writer.add(configuration)
    return path
