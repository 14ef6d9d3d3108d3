"""The generated samples of one update: made once, for both players."""

import torch
from torch import Tensor, nn


class Generated:
    """G(z) of one batch.

    The discriminator's loss makes them and leaves their graph to the generator's loss, which takes it up
    unless the generator has moved in between: a forward pass less in every update. Who asks again, or after a
    move, gets them anew from the same latents.

    Args:
        generator: latents [B, latent_size], and labels where it is conditional, to samples [B, ...].
        z: the latents.
        labels: int64 [B], or None.
        shared: whether a loss of the generator follows; if not, no graph is built for it.
    """

    def __init__(self, generator: nn.Module, z: Tensor, labels: Tensor | None, *, shared: bool) -> None:
        self.generator, self.z, self.labels, self.shared = generator, z, labels, shared
        self._parameters = list(generator.parameters())
        self._made: tuple[Tensor, int] | None = None

    def fixed(self) -> Tensor:
        """Samples without a graph."""
        if not self.shared:
            with torch.no_grad():
                return self.live()
        if self._made is None or self._made[1] != self._version():
            self._made = self.generator(self.z, self.labels), self._version()
        return self._made[0].detach()

    def live(self) -> Tensor:
        """Samples with their graph, which bears one backward pass."""
        made, self._made = self._made, None
        if made is not None and made[1] == self._version():
            return made[0]
        return self.generator(self.z, self.labels)

    def _version(self) -> int:
        """Grows with every change of a parameter in place, also with one that is taken back."""
        return sum(p._version for p in self._parameters)
