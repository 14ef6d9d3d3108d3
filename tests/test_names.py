"""Names that are not UTF-8, or that the terminal cannot show: they are escaped, and nothing fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.draw.figure import new_figure, pixels
from core.run.files import to_yaml, write_text
from core.run.tensorboard import Writer, read_scalars
from core.text import as_text

ROOT = Path(__file__).resolve().parents[1]
LATIN = os.fsdecode(b"caf\xe9")  # as Python sees a file name of an old archive


@pytest.mark.parametrize(
    ("name", "text"),
    [("plain", "plain"), ("größe 😀", "größe 😀"), (LATIN, r"caf\udce9"), (f"ü{LATIN}", r"ücaf\udce9")],
)
def test_only_what_is_no_text_is_escaped(name, text, tmp_path):
    assert as_text(name) == text
    write_text(tmp_path / "page.html", name)
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == text


def test_options_with_such_a_name_come_back_from_their_file_as_they_were(tmp_path):
    from omegaconf import OmegaConf

    write_text(tmp_path / "config.yaml", to_yaml({"root": LATIN}))
    assert OmegaConf.load(tmp_path / "config.yaml") == {"root": LATIN}
    assert os.fsencode(OmegaConf.load(tmp_path / "config.yaml").root) == b"caf\xe9"


def test_an_event_file_takes_any_name_and_any_directory(tmp_path):
    directory = tmp_path / LATIN
    writer = Writer(directory)
    writer.hparams({"data.root": LATIN, "lr": 0.5}, {"data.root": LATIN}, (), {"loss": "Loss"})
    writer.text("config", f"root: {LATIN}", 0)
    writer.scalars({"loss": 0.5}, 3)
    writer.close()
    assert read_scalars(directory) == {"loss": {3: 0.5}}
    (path,) = directory.iterdir()
    assert path.read_bytes().count(rb"caf\udce9") == 2


def test_a_picture_shows_such_a_name_escaped():
    def picture(title):
        figure = new_figure(2)
        figure.subplots().set_title(title)
        return pixels(figure)

    assert (picture(LATIN) == picture(r"caf\udce9")).all()
    assert (picture(LATIN) != picture("caf")).any()


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_commands_run_in_a_directory_of_such_a_name_on_any_terminal(tmp_path, encoding):
    def call(script, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
        done = subprocess.run(
            [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *arguments],
            cwd=tmp_path, env=environment, capture_output=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout

    run = b"hydra.run.dir='%s'" % os.fsencode(tmp_path / LATIN)
    out = call("descend", "steps=5", "pictures=[]", "logging.progress=false", os.fsdecode(run))
    assert rb"caf\udce9" in out
    assert call("report", f"run='{LATIN}'").startswith(b"report: caf\\udce9/report.html\n")
    assert (tmp_path / LATIN / "report.html").exists()
