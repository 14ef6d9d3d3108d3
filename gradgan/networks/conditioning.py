"""How labels reach the two players: frozen dataclasses; None is an unconditional pair.

The generator gets the label together with its latent; the two classes differ in what the discriminator does
with it.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from core.checks import Finite, checked


@dataclass(frozen=True, kw_only=True)
class Projection:
    """The discriminator reads the label, and decides whether the sample is a real one of that class.

        D(x, y) = <v_y, f(x)> + head(f(x))

    Attributes:
        name: as the user writes it, `conditioning=projection`.

    Source: Miyato & Koyama 2018, arXiv:1802.05637, eq. 3.
    """

    name: ClassVar[str] = "projection"


@dataclass(frozen=True, kw_only=True)
@checked
class Auxiliary:
    """The discriminator predicts the label with a second head; both players want the prediction right.

    Both losses get weight * cross-entropy of the class logits, the discriminator's from real and from
    generated samples.

    Attributes:
        name: as the user writes it, `conditioning=auxiliary`.
        weight: of the cross-entropy (nats) against the adversarial loss; 1 in the paper.

    Source: Odena et al. 2017, arXiv:1610.09585, eq. 2 and 3.
    """

    name: ClassVar[str] = "auxiliary"

    weight: Annotated[float, Ge(0), Finite]


Conditioning = Projection | Auxiliary
