"""Per-sample gradients through recurrent layers, against one sample after the other."""

import pytest
from torch import Tensor, nn

from tests.core.noise.test_per_sample import assert_gradients_and_norms_are_right, objective_of


class Recurrent(nn.Module):
    """A recurrent layer and what reads its outputs; it begins with torch's zeros."""

    def __init__(self, kind: type[nn.RNNBase], **options: object) -> None:
        super().__init__()
        self.layer = kind(3, 5, **options)
        self.read = nn.Linear((self.layer.proj_size or 5) * (1 + self.layer.bidirectional), 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.layer.batch_first:
            return self.read(self.layer(x)[0])
        return self.read(self.layer(x.transpose(0, 1))[0].transpose(0, 1))


@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize(
    "options", [{"batch_first": True}, {"num_layers": 2, "bidirectional": True}], ids=str
)
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_sequences_have_gradients_of_their_own_through_recurrent_layers(kind, options, chunk_size):
    assert_gradients_and_norms_are_right(objective_of(Recurrent(kind, **options), 4, 3), chunk_size)


def test_a_recurrent_layer_with_a_projection_has_them_too_and_none_keeps_a_hook():
    network = Recurrent(nn.LSTM, proj_size=2)
    assert_gradients_and_norms_are_right(objective_of(network, 4, 3))
    assert not network.layer._forward_pre_hooks
