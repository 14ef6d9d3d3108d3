"""How good samples are: modes and quality for mixtures; FID and KID under named features for images."""

import warnings

import torch
from torch import Tensor, nn

from gradgan.data import Images
from gradgan.features import Classifier

NEAR = 3.0  # standard deviations within which a sample is of high quality (arXiv:1705.07761, section 4.1)
FEATURE_BATCH = 500
KID_SUBSETS, KID_SUBSET_SIZE = 10, 1000


def mixture_metrics(samples: Tensor, centres: Tensor, std: float) -> dict[str, float]:
    """Coverage and quality of samples of equally likely Gaussians.

    Every sample belongs to its nearest centre. With p the shares of the K centres among all samples,

        reverse_kl = KL(p || uniform) = sum_k p_k log(K p_k)

    Args:
        samples: [N, 2], N >= 1, in the units of the centres; a non-finite sample is near no centre.
        centres: [K, 2].
        std: of each Gaussian along each axis.

    Returns:
        modes: centres with at least one sample within 3 std. high_quality: share of the samples within 3 std
        of their centre, in [0, 1]; samples of the mixture itself give 1 - exp(-4.5) = 0.989. reverse_kl:
        nats, in [0, log K]; (K - 1) / (2 N) is expected of a perfect sampler.

    Source: Srivastava et al. 2017, arXiv:1705.07761, section 4.1; reverse KL: Lin et al. 2018,
    arXiv:1712.04086.
    """
    distance, nearest = torch.cdist(samples.double(), centres.double()).min(dim=1)
    near = distance < NEAR * std
    share = torch.bincount(nearest, minlength=len(centres)).double() / len(samples)
    reverse_kl = torch.special.xlogy(share, share * len(centres)).sum()
    return {
        "modes": int(nearest[near].unique().numel()),
        "high_quality": near.double().mean().item(),
        "reverse_kl": max(reverse_kl.item(), 0.0),  # rounding can leave -1e-17
    }


class ImageDistance:
    """FID and KID of generated images from held-out real ones, with the floor of real from real.

    All sides have the same number of images, since both the estimate of FID and its bias depend on it:
    `count` generated (or, for the floor, training) images against `count` held-out ones.

    Args:
        images: the data set; `held_out` must not be empty.
        features: uint8 images [B, C, H, W] to [B, F], with the attribute `num_features`.
        count: wanted number of images; less if the data set has less.

    Attributes:
        count: number of images on each side.
        floor: fid_floor and kid_floor.

    Source: FID: Heusel et al. 2017, arXiv:1706.08500, eq. 6; KID: Binkowski et al. 2018, arXiv:1801.01401,
    section 4; both as torchmetrics computes them.
    """

    def __init__(self, images: Images, features: nn.Module, count: int) -> None:
        from torchmetrics.image.fid import FrechetInceptionDistance  # late: importing it takes seconds
        from torchmetrics.image.kid import KernelInceptionDistance

        self.count = min(count, len(images.train), len(images.held_out))
        size = min(self.count, KID_SUBSET_SIZE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that KID keeps all features, which is meant
            self._fid = FrechetInceptionDistance(feature=features, reset_real_features=False)
            self._kid = KernelInceptionDistance(
                feature=features, reset_real_features=False, subsets=KID_SUBSETS, subset_size=size
            )
        for batch in images.held_out[: self.count].split(FEATURE_BATCH):
            self._fid.update(batch, real=True)
            self._kid.update(batch, real=True)
        floor = self(images.train[: self.count])
        self.floor = {f"{name}_floor": value for name, value in floor.items()}

    def __call__(self, fake: Tensor) -> dict[str, float]:
        """Measure fid and kid of the first `count` of these uint8 images [N, C, H, W], N >= `count`."""
        self._fid.reset()
        self._kid.reset()
        for batch in fake[: self.count].split(FEATURE_BATCH):
            self._fid.update(batch, real=False)
            self._kid.update(batch, real=False)
        # KID draws its subsets from torch's global generator: lend it a fixed state, then restore.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            kid, _ = self._kid.compute()
        return {"fid": self._fid.compute().item(), "kid": kid.item()}


def class_counts(classifier: Classifier, pixels: Tensor) -> list[int]:
    """How many of these uint8 images [N, C, H, W] the classifier gives to each class."""
    classes = torch.cat([classifier.classify(batch) for batch in pixels.split(FEATURE_BATCH)])
    return torch.bincount(classes, minlength=classifier.num_classes).tolist()
