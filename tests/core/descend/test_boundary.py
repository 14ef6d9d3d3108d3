"""What a network says over the plane of its samples, against its definition, and the pictures of it."""

import numpy as np
import pytest
import torch

from core.descend.batches import Full
from core.descend.objective_descent import ObjectiveDescent
from core.descend.objectives import DigitsMLP, Logistic, Moons, Supervised
from core.descend.pictures.boundary import HOLD, draw_boundary, draw_boundary_video
from core.descend.plot import GRID
from core.draw.palette import DARK
from tests.drawn import figure_of, require_legible, texts


def descent(objective: Supervised) -> ObjectiveDescent:
    return ObjectiveDescent(objective, Full(), None, 0, torch.device("cpu"))


def share(made: ObjectiveDescent) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    assert made.plot is not None
    row = made.plot.row(made.network, 7).numpy()
    assert row[0] == 7
    return made.plot.x.numpy(), made.plot.y.numpy(), row[1:].reshape(GRID, GRID)


def test_of_a_logistic_regression_it_is_the_sigmoid_of_the_scalar_product() -> None:
    made = descent(Logistic())  # it begins at (-2, 1)
    x, y, found = share(made)
    expected = 1 / (1 + np.exp(-(-2 * x[None, :] + y[:, None])))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_of_two_outputs_it_is_the_softmax_and_the_plane_holds_all_samples() -> None:
    made = descent(Moons(hidden_sizes=(4,), samples=20))
    x, y, found = share(made)
    point = torch.tensor([[x[30], y[11]]])
    expected = made.network(point).softmax(1)[0, 1].item()
    assert found[11, 30] == pytest.approx(expected, rel=1e-5)
    every = torch.cat([made.data.x, made.data.held_out_x]).numpy()
    for line, values in ((x, every[:, 0]), (y, every[:, 1])):
        assert line[0] < values.min()
        assert values.max() < line[-1]


def test_images_have_no_plane_and_nothing_of_it_in_their_state() -> None:
    made = descent(DigitsMLP(hidden_sizes=(4,)))
    assert made.plot is None
    assert made.state_dict()["shares"] is None


def test_the_pictures_show_the_latest_and_every_logged_moment() -> None:
    made, again = (descent(Moons(hidden_sizes=(4,), samples=20)) for _ in range(2))
    for _ in range(3):
        with torch.no_grad():
            for p in made.parameters:
                p.mul_(1.5)
        made.record()
        made.metrics()
    again.load_state_dict(made.state_dict())
    trained = {"a name that is long": made, "again": again}
    drawn = figure_of(draw_boundary, trained, look=DARK)
    require_legible(drawn)
    titles = [text for text, *_ in texts(drawn) if "step" in text]
    assert titles == ["a name that is long, step 3", "again, step 3"]
    video = draw_boundary_video({"alone": made})
    assert len(video.frames) == 4 + HOLD
    assert len({frame.tobytes() for frame in video.frames}) == 4
