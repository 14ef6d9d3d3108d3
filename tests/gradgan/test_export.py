import io

import numpy as np
import onnxruntime
import pytest
import torch

from core.export.card import text
from core.export.formats import Exportable, as_bytes
from gradgan import load_generator
from gradgan.export import GeneratorModule, card, exportable_generator
from gradgan.game.players import make_generator
from tests.gradgan.game.test_players import networks
from tests.gradgan.test_sampler import write_run

pytestmark = pytest.mark.slow

COUNT = 1000


@pytest.mark.slow
@pytest.mark.parametrize("network", networks(), ids=lambda n: n.name)
@pytest.mark.parametrize("num_classes", [3, pytest.param(None, marks=pytest.mark.long)])
def test_onnx_and_pt2_generate_as_the_generator_from_1000_latents(network, num_classes):
    random = torch.Generator().manual_seed(0)
    generator = make_generator(network, 5, (1, 8, 8), num_classes, random).eval().requires_grad_(False)
    inputs = {"latent": torch.randn(COUNT, 5, generator=random)}
    if num_classes:
        inputs["label"] = torch.randint(num_classes, (COUNT,), generator=random)
    expected = generator(*inputs.values())
    example = {name: x[:2] for name, x in inputs.items()}
    exportable = Exportable("generator", GeneratorModule(generator).eval(), example, ("image",))
    session = onnxruntime.InferenceSession(as_bytes(exportable, "onnx")[0])
    (found,) = session.run(None, {name: x.numpy() for name, x in inputs.items()})
    np.testing.assert_allclose(found, expected, atol=1e-5)
    program = torch.export.load(io.BytesIO(as_bytes(exportable, "pt2")[0])).module()
    torch.testing.assert_close(program(*inputs.values())[0], expected, atol=1e-5, rtol=0)


def test_the_averaged_generator_of_a_run_is_exported_with_a_card(tmp_path):
    write_run(tmp_path)
    exportable, saved = exportable_generator(tmp_path, "last")
    assert list(exportable.inputs) == ["latent", "label"]
    content, said = as_bytes(exportable, "onnx")
    (tmp_path / "generator.onnx").write_bytes(content)
    shown = text(card(saved, "last", "gradgan data=digits", {"torch": "2"}), exportable, "onnx", said)
    code = shown.partition("```python\n")[2].partition("```")[0]
    namespace = {}
    exec(code.replace("generator.onnx", str(tmp_path / "generator.onnx")), namespace)
    labels = torch.zeros(1, dtype=torch.int64)
    expected = load_generator(tmp_path).generator(torch.zeros(1, 5), labels)
    np.testing.assert_allclose(namespace["image"], expected, atol=1e-5)
