"""Second derivatives: products, spectra, critical points, stability."""

from core.curvature.critical import Classification, classify
from core.curvature.kernels import twice_differentiable
from core.curvature.point import Point, classify_point
from core.curvature.probe import CurvatureProbe
from core.curvature.products import Fisher, GaussNewton, Hessian, LinearOperator
from core.curvature.spectrum import (
    eigenvalues,
    lanczos,
    spectral_density,
)
from core.curvature.stability import (
    Stability,
    adam_threshold,
    along,
    momentum_threshold,
    stability,
    update_rule,
)
from core.curvature.trace import hutch_pp

__all__ = [
    "Classification",
    "CurvatureProbe",
    "Fisher",
    "GaussNewton",
    "Hessian",
    "LinearOperator",
    "Point",
    "Stability",
    "adam_threshold",
    "along",
    "classify",
    "classify_point",
    "eigenvalues",
    "hutch_pp",
    "lanczos",
    "momentum_threshold",
    "spectral_density",
    "stability",
    "twice_differentiable",
    "update_rule",
]
