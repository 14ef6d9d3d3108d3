"""How good samples are: modes and quality for mixtures; distances, neighbours and classes for images."""

import torch
from torch import Tensor

from gradgan.evaluation import manifold
from gradgan.evaluation.distances import FeatureDistances
from gradgan.evaluation.manifold import Manifold
from gradgan.features import FeatureNetwork, extract
from gradgan.images import Images

NEAR = 3.0  # standard deviations within which a sample is of high quality (arXiv:1705.07761, section 4.1)
MIXTURE_NAMES = ("modes", "high_quality", "reverse_kl")
NAMES = ("fid", "kid", *manifold.NAMES, "inception_score", "modes", "reverse_kl")

Measured = dict[str, float | None]


def mixture_metrics(samples: Tensor, centres: Tensor, std: float) -> dict[str, float]:
    """Coverage and quality of samples of equally likely Gaussians.

    Every finite sample belongs to its nearest centre. With p the shares of the K centres among these,

        reverse_kl = KL(p || uniform) = sum_k p_k log(K p_k)

    Args:
        samples: [N, 2], N >= 1, in the units of the centres; a non-finite sample is near no centre, and
            belongs to none.
        centres: [K, 2].
        std: of each Gaussian along each axis.

    Returns:
        modes: centres with at least one sample within 3 std. high_quality: share of the samples within 3 std
        of their centre, in [0, 1]; samples of the mixture itself give 1 - exp(-4.5) = 0.989. reverse_kl:
        nats, in [0, log K]; (K - 1) / (2 N) is expected of a perfect sampler; NaN without a finite sample.
        samples_not_finite: how many, where there are any.

    Source: Srivastava et al. 2017, arXiv:1705.07761, section 4.1; reverse KL: Lin et al. 2018,
    arXiv:1712.04086.
    """
    distance, nearest = torch.cdist(samples.double(), centres.double()).min(dim=1)
    near = distance < NEAR * std
    finite = samples.isfinite().all(dim=1)  # of a NaN the nearest centre would be the first
    counts = torch.bincount(nearest[finite], minlength=len(centres))
    uniform = torch.full((len(centres),), 1 / len(centres), dtype=torch.float64, device=counts.device)
    return {
        "modes": int(nearest[near].unique().numel()),
        "high_quality": near.double().mean().item(),
        "reverse_kl": reverse_kl(counts, uniform),
        **({} if finite.all() else {"samples_not_finite": int((~finite).sum())}),
    }


def reverse_kl(counts: Tensor, shares: Tensor) -> float:
    """Divergence of a histogram of generated samples from the shares they should have.

    With p the generated shares and q the wanted ones, KL(p || q) = sum_k p_k log(p_k / q_k).

    Args:
        counts: int64 [K]; NaN is returned where all are 0.
        shares: q, float64 [K], with sum 1.

    Returns:
        Nats, >= 0; (K - 1) / (2 N) is expected of N samples with the wanted shares; infinite if there are
        samples where there should be none.

    Source: Lin et al. 2018, arXiv:1712.04086, section 4.
    """
    found = counts.double() / counts.sum()
    # Where p = 0 the term is 0 even if q = 0; rounding can leave a sum of -1e-17.
    terms = torch.where(found != 0, found * (found / shares).log(), 0.0)
    return max(terms.sum().item(), 0.0)


def inception_score(logits: Tensor) -> float:
    """How certain a classifier is about each sample, and how many classes it finds.

        exp(mean_i KL(p(y | x_i) || p(y))),   p(y) = mean_i p(y | x_i)

    over all samples at once: no splits, which would only raise the bias of small sets.

    Args:
        logits: [N, K], nats; N >= 1.

    Returns:
        From 1 (every sample looks alike to the classifier) to K (each is surely of a class, evenly).

    Source: Salimans et al. 2016, arXiv:1606.03498, section 4; Barratt and Sharma 2018, arXiv:1801.01973,
    section 4.1.1, on the splits.
    """
    log_p = logits.double().log_softmax(dim=1)
    p = log_p.exp()
    mean = p.mean(dim=0)
    entropy = -torch.special.xlogy(mean, mean).sum()
    return (entropy + (p * log_p.clamp(min=-700)).sum(dim=1).mean()).exp().item()  # 0 * -inf would be NaN


class ImageMetrics:
    """What is measured of generated images against held-out real ones, with the floor of real from real.

    All sides have the same number of images, since most estimates and their biases depend on it: `count`
    generated (or, for the floor, training) images against `count` held-out ones.

    Args:
        images: the data set; at least two images on either side.
        network: the features, on `device`.
        count: wanted number of images; less if the data set has less.
        device: where features are extracted and neighbours are searched.

    Attributes:
        count: number of images on each side.
        floor: `<name>_floor` for every name that a call gives: what another sample of the data gets, and so
            what a perfect generator would.
    """

    def __init__(self, images: Images, network: FeatureNetwork, count: int, device: torch.device) -> None:
        self.count = min(count, len(images.train), len(images.held_out))
        self._network = network
        self._device = device
        real = extract(network, images.held_out[: self.count], device)
        self._distances = FeatureDistances(real.cpu())
        self._manifold = Manifold(real)
        floor, _ = self(images.train[: self.count])
        self.floor = {f"{name}_floor": value for name, value in floor.items()}

    def __call__(self, fake: Tensor) -> tuple[Measured, list[int] | None]:
        """Measure uint8 images [N, C, H, W], N >= `count`.

        Returns:
            Of the first `count`: fid and kid (`distances`); precision, recall, density and coverage
            (`manifold`); inception_score, where the network knows classes; and where they are the data's own,
            modes, the classes with at least one image, and reverse_kl from the shares of the real ones. None
            is what cannot be measured. And of all N, how many are of each of the data's own classes, or None.
        """
        shares = self._network.shares
        features = extract(self._network, fake if shares is not None else fake[: self.count], self._device)
        few = features[: self.count]
        measured: Measured = dict.fromkeys(NAMES)
        measured |= {**self._distances(few.cpu()), **self._manifold(few)}
        logits = self._network.logits(features)
        if logits is None:
            return measured, None
        logits = logits.cpu()
        measured["inception_score"] = inception_score(logits[: self.count])
        if shares is None:
            return measured, None
        classes = logits.argmax(dim=1)
        counts = torch.bincount(classes[: self.count], minlength=len(shares))
        measured["modes"] = int((counts > 0).sum())
        measured["reverse_kl"] = reverse_kl(counts, shares.cpu())
        return measured, torch.bincount(classes, minlength=len(shares)).tolist()
