"""Numbers of independent couplings, and harmonics against e3nn."""

import pytest
import torch
from e3nn import o3

from mmace.coupling import Irrep, symmetric_product
from mmace.harmonics import SolidHarmonics

NATURAL = tuple(Irrep((degree,)) for degree in range(4))
LABELLED = tuple(Irrep((degree,), time) for time in (1, -1) for degree in range(4))


@pytest.mark.parametrize(
    ("blocks", "degree", "couplings"), [(NATURAL, 0, 8), (NATURAL, 1, 12), (LABELLED, 0, 23), (LABELLED, 1, 41)]
)
def test_number_of_independent_third_order_couplings(blocks, degree, couplings):
    assert symmetric_product(blocks, 3, Irrep((degree,))).coefficients.shape[0] == couplings


def test_harmonics_agree_with_e3nn_and_are_homogeneous():
    vectors = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    ours = SolidHarmonics(4, torch.float64)
    torch.testing.assert_close(ours(unit), o3.spherical_harmonics(list(range(5)), unit, True, "component"))
    torch.testing.assert_close(ours(2 * vectors)[:, 9:16], 8 * ours(vectors)[:, 9:16])
