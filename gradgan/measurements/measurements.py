"""What is measured and drawn of both players together, at every evaluation and every drawing.

One frozen batch of training samples, as many held-out ones and the same latents through the whole run.
Measuring changes nothing of the training.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from core.checks import checked, require
from core.draw.media import Media
from core.form import Floats, Maybe
from core.gradients.unit_health import shares_of
from core.seeding import seed_for
from core.state import StateDict
from gradgan.batch import Batch
from gradgan.game.game import StepInfo
from gradgan.game.players import latents
from gradgan.measurements.field_pictures import draw_field, draw_field_video
from gradgan.measurements.game_pictures import eigenvalue_picture, logit_histogram, path_picture
from gradgan.measurements.sample_field import SampleField, sample_gradients
from gradgan.measurements.vector_field import VectorField, unchanged
from gradgan.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
@checked
class MeasurementsConfig:
    """What is measured and drawn.

    Attributes:
        samples: real, held-out and generated ones whose logits are compared.
        vector_field_samples: how many of them both players' gradients are computed on.
        eigenvalues: products with the game's Jacobian at every drawing, each as costly as two to three
            gradients of both players; 0 = its eigenvalues are not drawn.
        path_points: places on the line from the last drawing's parameters to the present ones at which the
            vector field is computed; 0 (not drawn) or >= 2. The former parameters are kept and saved.
    """

    samples: Annotated[int, Ge(2)]
    vector_field_samples: Annotated[int, Ge(1)]
    eigenvalues: Annotated[int, Ge(0)]
    path_points: int

    def __post_init__(self) -> None:
        points = self.path_points
        require(points == 0 or points >= 2, "path_points", points, "0 or an integer >= 2")


class Measurements:
    """Measures and draws a trainer's two players.

    Args:
        cfg: what is measured.
        trainer: whose players they are.
        real: training samples, at least `cfg.samples` where there are as many.
        held_out: samples that the training never shows, or None.
        seed: of the latents and the draws.
        in_plane: whether samples are points in the plane, of no class; then the field they feel is drawn.
    """

    def __init__(
        self,
        cfg: MeasurementsConfig,
        trainer: Trainer,
        real: Batch,
        held_out: Batch | None,
        seed: int,
        *,
        in_plane: bool = False,
    ) -> None:
        self.cfg = cfg
        self.trainer = trainer
        self.real = real
        self.held_out = held_out
        self.seed = seed
        self._former: Tensor | None = None  # the point of the last drawing
        self.sample_field = SampleField(trainer, real, self._latents()) if in_plane else None

    def measure(self) -> dict[str, float]:
        """What the two players do to each other now.

        Returns:
            game/gradient_ratio: |dL_G/dG| / |dL_D/dD| on the frozen batch.
            game/sample_gradient: mean |dL_G/dG(z)| of a sample's own loss: the generator's gradient as it
                leaves the discriminator; game/logit_gradient: mean |dL_G/dD(G(z))|, its first factor,
                which a saturating loss lets vanish.
            game/logit_gap: mean logit of training samples less that of generated ones; and
            game/overfitting: how much of it is between training and held-out samples, 0 = none of it, 1 =
                held-out samples look generated (Karras et al. 2020, arXiv:2006.06676, eq. 1); where samples
                are held out.
            game/diversity: mean distance between generated samples over that between training samples;
            game/energy_distance: of the two distributions, in [0, 1], 0 = the same (Szekely and Rizzo 2013,
                the coefficient of inhomogeneity).
            discriminator/loss_share/..., .../loss_cosine/...: of the terms of its loss, as in
                `core.gradients.unit_health`, where it has several.
        """
        field = self._field()
        generator, discriminator = (v.norm() for v in field.gradients())
        train, held_out, fake = self._logits()
        gap = train.mean() - fake.mean()
        sample_gradient, logit_gradient = self._through_discriminator()
        values = {
            "gradient_ratio": generator / discriminator,
            "sample_gradient": sample_gradient,
            "logit_gradient": logit_gradient,
            "logit_gap": gap,
        }
        if held_out is not None:
            values["overfitting"] = (train.mean() - held_out.mean()) / gap
        values |= self._spread()
        found = {f"game/{name}": value for name, value in values.items()}
        found |= {
            f"discriminator/{tag}": value for tag, value in shares_of(field.discriminator_terms()).items()
        }
        return {tag: value.item() for tag, value in found.items() if value.isfinite()}

    def draw(self, ended: bool) -> dict[str, Media]:
        """Histogram of the logits, the Jacobian's eigenvalues, the field along the way since last time.

        Of points in the plane also the field that they feel, and, where the training has ended, its video.
        """
        pictures: dict[str, Media] = {
            "logits": logit_histogram(*self._logits(), threshold=self.trainer.game.loss.has_threshold)
        }
        field = self._field()
        if self.cfg.eigenvalues:
            random = torch.Generator().manual_seed(seed_for(self.seed, "eigenvalues"))
            with suppress(FloatingPointError):  # a product is not finite: there is nothing to draw
                found = field.eigenvalues(self.cfg.eigenvalues, random)
                pictures["eigenvalues"] = eigenvalue_picture(found)
        if self.cfg.path_points:
            former, self._former = self._former, field.point
            if former is not None and not torch.equal(former, self._former):
                pictures["path_angle"] = path_picture(field.path(former, self.cfg.path_points))
        if self.sample_field is not None:
            self.sample_field.record()
            moments, line = self.sample_field.moments(), self.sample_field.line
            pictures["field"] = draw_field(moments, line, self.real.x)
            if ended:
                pictures["field_video"] = draw_field_video(moments, line, self.real.x)
        return pictures

    def state_dict(self) -> StateDict:
        """Both players' parameters at the last drawing, where paths are drawn; the moments of the field."""
        field = self.sample_field and self.sample_field.state_dict()
        return {"former": self._former, "sample_field": field}

    def state_form(self) -> StateDict:
        """What `state_dict` must look like."""
        steps = self.trainer.generator_step, self.trainer.discriminator_step
        former = Maybe(Floats((sum(p.numel() for step in steps for p in step.parameters),)))
        return {"former": former, "sample_field": self.sample_field and self.sample_field.state_form()}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        former = state["former"]
        self._former = None if former is None else former.to(self.trainer.generator_step.device)
        if self.sample_field is not None:
            self.sample_field.load_state_dict(state["sample_field"])

    @torch.no_grad()
    def _spread(self) -> dict[str, Tensor]:
        """Diversity and energy distance of generated samples, compared with training samples."""
        with unchanged(self.trainer.generator, self.trainer.discriminator):
            fake = self._fake()[0].flatten(1)
        real = self.real.x.flatten(1)
        within_real, within_fake = torch.pdist(real).mean(), torch.pdist(fake).mean()
        between = torch.cdist(real, fake).mean()
        return {
            "diversity": within_fake / within_real,
            "energy_distance": 1.0 - (within_real + within_fake) / (2.0 * between),
        }

    def _field(self) -> VectorField:
        """At the training's progress, without augmentation, always with the same draws."""
        trainer = self.trainer
        nothing = torch.zeros_like(trainer.augmentation)
        info = StepInfo(trainer.discriminator_updates, trainer.progress, nothing, seed_for(self.seed, "view"))
        count, labels = self.cfg.vector_field_samples, self.real.labels
        few = Batch(self.real.x[:count], None if labels is None else labels[:count])
        return VectorField(
            trainer.game,
            trainer.generator,
            trainer.discriminator,
            few,
            trainer.latent_size,
            info,
            trainer.regularizer_states,
        )

    def _fake(self) -> tuple[Tensor, Tensor | None]:
        """As many generated samples as real ones, with their labels."""
        return self.trainer.generator(self._latents(), self.real.labels), self.real.labels

    def _latents(self) -> Tensor:
        """One for each real sample, always the same."""
        random = torch.Generator().manual_seed(seed_for(self.seed, "view"))
        return latents(len(self.real.x), self.trainer.latent_size, random, self.real.x.device)

    @torch.no_grad()
    def _logits(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """Of training, held-out (or None) and generated samples, each [N], on the CPU."""
        discriminator = self.trainer.discriminator
        with unchanged(self.trainer.generator, self.trainer.discriminator):
            train = discriminator(*self.real).cpu()
            held_out = None if self.held_out is None else discriminator(*self.held_out).cpu()
            fake = discriminator(*self._fake()).cpu()
        return train, held_out, fake

    def _through_discriminator(self) -> tuple[Tensor, Tensor]:
        """Mean |dL_G/dG(z)| and mean |dL_G/dD(G(z))| over samples, of the loss of a single sample."""
        with unchanged(self.trainer.generator, self.trainer.discriminator):
            _, by_sample, by_logit = sample_gradients(self.trainer, self.real, self._latents())
        return by_sample.flatten(1).norm(dim=1).mean(), by_logit.abs().mean()
