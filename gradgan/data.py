"""Old names, for files that still import them from here; to be removed with the last of these."""

from gradgan.digits import Digits
from gradgan.images import ImageData, Images, ImageStream
from gradgan.mixtures import Grid, Mixture, MixtureStream, Ring
from gradgan.torchvision_data import Torchvision

__all__ = [
    "Digits",
    "Grid",
    "ImageData",
    "ImageStream",
    "Images",
    "Mixture",
    "MixtureStream",
    "Ring",
    "Torchvision",
]
