"""Networks of the programs other than plain stacks."""

from typing import cast

import torch
from torch import Tensor, nn


class Letters(nn.Module):
    """A transformer of two layers that predicts the next letter: [B, T] to scores [B, letters, T]."""

    def __init__(self, letters: int, width: int = 32, length: int = 24, *, softmax: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(letters, width)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 2, 2 * width, 0.0, batch_first=True, norm_first=True)
            for _ in range(2)
        )
        self.head = nn.Linear(width, letters)
        self.softmax = softmax

    def forward(self, x: Tensor) -> Tensor:
        """Scores; each place sees what is before it."""
        mask = torch.full((x.shape[1],) * 2, float("-inf")).triu(1)
        hidden = self.embedding(x) + self.places[: x.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden, src_mask=mask)
        scores = self.head(hidden)
        return (scores.softmax(-1) if self.softmax else scores).movedim(-1, 1)


class Recurrent(nn.Module):
    """The last state of a recurrent layer, and a linear one: [B, T, D] to [B, outputs]."""

    def __init__(self, layer: nn.RNNBase, outputs: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(layer.hidden_size, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Of the last place."""
        return self.head(self.layer(x)[0][:, -1])


class Variational(nn.Module):
    """A variational autoencoder; returns logits and the mean divergence."""

    def __init__(self, inputs: int, latent: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, 64), nn.ReLU(), nn.Linear(64, inputs))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Kingma and Welling 2014."""
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        latent = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean()
        return cast(Tensor, self.decoder(latent)), divergence


def signals(classes: int) -> nn.Sequential:
    """A convolution over time: [B, T, 1] to [B, classes]."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Unflatten(1, (1, -1)),
        nn.Conv1d(1, 8, 5, padding=2),
        nn.ReLU(),
        nn.Conv1d(8, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, classes),
    )
