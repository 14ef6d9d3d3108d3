"""FID and KID between two sets of features, as torchmetrics computes them."""

import warnings

import torch
from torch import Tensor, nn

KID_SUBSETS, KID_SUBSET_SIZE = 10, 1000


class FeatureDistances:
    """FID and KID of other features from those of real images.

    FID is the squared Wasserstein distance of the two Gaussians with the sets' means and covariances, in
    float64, in the features' unit squared:

        |m_1 - m_2|^2 + Tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))

    KID is the unbiased estimate of the squared maximum mean discrepancy under the kernel (x.y / F + 1)^3, the
    mean over 10 random subsets of 1,000 (or all, if there are fewer) of each set; it may be negative.

    Args:
        real: [N, F], on the CPU; N >= 2.

    Source: FID: Heusel et al. 2017, arXiv:1706.08500, eq. 6; KID: Binkowski et al. 2018, arXiv:1801.01401,
    section 4.
    """

    def __init__(self, real: Tensor) -> None:
        from torchmetrics.image.fid import FrechetInceptionDistance  # late: importing it takes seconds
        from torchmetrics.image.kid import KernelInceptionDistance

        given = _Given(real.shape[1])
        size = min(len(real), KID_SUBSET_SIZE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that KID keeps all features, which is meant
            self._fid = FrechetInceptionDistance(feature=given, reset_real_features=False)
            self._kid = KernelInceptionDistance(
                feature=given, reset_real_features=False, subsets=KID_SUBSETS, subset_size=size
            )
        for metric in (self._fid, self._kid):
            metric.update(real, real=True)

    def __call__(self, fake: Tensor) -> dict[str, float]:
        """Measure fid and kid of features [N, F], as many as the real ones, on the CPU."""
        for metric in (self._fid, self._kid):
            metric.reset()
            metric.update(fake, real=False)
        # KID draws its subsets from torch's global generator: lend it a fixed state, then restore.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            kid, _ = self._kid.compute()
        return {"fid": self._fid.compute().item(), "kid": kid.item()}


class _Given(nn.Module):
    """Features in the place of images: torchmetrics wants a network, and would ask it twice."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features
