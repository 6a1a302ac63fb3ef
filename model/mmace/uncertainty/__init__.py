"""How far a prediction may be off: from several potentials, or from the last layer of a single one.

`LastLayer` and `CommitteeUncertainty` answer the same question in the same form: ``estimate(graph)`` gives an
`Estimate`. `calibrate` fits the size of the estimates to errors that were seen, `select_most_uncertain` chooses what to
label next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmace.lazy import importer

if TYPE_CHECKING:
    from mmace.uncertainty.calibration import Calibration, calibrate
    from mmace.uncertainty.committee import CommitteeUncertainty
    from mmace.uncertainty.estimate import Estimate, Uncertainty
    from mmace.uncertainty.features import last_layer_features
    from mmace.uncertainty.files import load_uncertainty, save_uncertainty
    from mmace.uncertainty.fit import FitReport, fit_last_layer
    from mmace.uncertainty.last_layer import LastLayer
    from mmace.uncertainty.selection import select_most_uncertain

_HOMES = {
    "Calibration": "calibration",
    "CommitteeUncertainty": "committee",
    "Estimate": "estimate",
    "FitReport": "fit",
    "LastLayer": "last_layer",
    "Uncertainty": "estimate",
    "calibrate": "calibration",
    "fit_last_layer": "fit",
    "last_layer_features": "features",
    "load_uncertainty": "files",
    "save_uncertainty": "files",
    "select_most_uncertain": "selection",
}

__all__ = [
    "Calibration",
    "CommitteeUncertainty",
    "Estimate",
    "FitReport",
    "LastLayer",
    "Uncertainty",
    "calibrate",
    "fit_last_layer",
    "last_layer_features",
    "load_uncertainty",
    "save_uncertainty",
    "select_most_uncertain",
]

__getattr__ = importer(__name__, _HOMES)
