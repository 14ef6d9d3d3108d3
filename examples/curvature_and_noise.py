"""How noisy is the gradient of an ordinary network, how curved is its loss, which learning rate is stable?

python examples/curvature_and_noise.py
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from core.curvature import Hessian, Point, Stability, classify_point, stability
from core.gradients import GradientStep, Objective, recommended_batch_size
from core.noise import NoiseStatistics, noise_statistics
from core.optim.lr_proposal import RateProposal, propose_lr

BATCH = 64
Findings = tuple[RateProposal, NoiseStatistics, Stability, Point, Point]


def make_step(model: nn.Module, lr: float) -> GradientStep:
    """What trains: gradient descent with momentum."""
    return GradientStep(model, torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9))


def study(num_steps: int = 300) -> Findings:
    """Propose a learning rate, train with it, look around; last, at the point where every weight is zero."""
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(0)
    pixels, digits = map(torch.from_numpy, load_digits(return_X_y=True))
    images = pixels.float() / 16
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))

    # The mean loss over a fixed batch, here all 1,797 images, as a function of the network's parameters.
    objective = Objective(model, lambda forward, x, y: cross_entropy(forward(x), y), (images, digits))
    proposal = propose_lr(objective, make_step, BATCH, random)
    step = make_step(model, proposal.lr)
    for _ in range(num_steps):
        rows = torch.randint(len(digits), (BATCH,), generator=random)
        step(lambda rows=rows: (cross_entropy(model(images[rows]), digits[rows]), {}), samples=BATCH)
    hessian = Hessian(objective(), objective.parameters)
    edge, here = stability(step.optimizer, hessian, random), classify_point(hessian, random)

    zero = {name: torch.zeros_like(p, requires_grad=True) for name, p in model.named_parameters()}
    zero["2.bias"] = digits.bincount().div(len(digits)).log().requires_grad_()  # the classes' frequencies
    origin = classify_point(Hessian(objective(zero), [*zero.values()]), random)
    return proposal, noise_statistics(objective), edge, here, origin


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    proposal, statistics, edge, here, origin = study()
    print("learning rate", *proposal.lines(), sep="\n    ")
    print("\nafter training, signal-to-noise of one image")
    for name, ratio in statistics.layer_signal_to_noise.items():
        print(f"    {name:<10}  {ratio:.1e}")
    wanted = recommended_batch_size(statistics.noise, theta=0.5)
    print(f"noise scale {statistics.noise.scale:,.0f} images; right to half its length with {wanted:,.0f}")
    print(f"sharpness {edge.sharpness:.2g}, {edge.ratio:.0%} of the stability threshold\n")
    for where, point in {"the training ended at": here, "with all weights zero there is": origin}.items():
        size, lowest = f"{point.gradient_norm:.1g}", f"{point.lowest:.2g}"
        print(f"{where} a {point.kind}: |g| = {size}, lowest eigenvalue {lowest}")
