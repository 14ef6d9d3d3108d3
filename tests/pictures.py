"""Make the pictures of the README and of docs/descend.md anew: `make pictures`. A browser is needed.

Four optimizers on one function; a run of PPO on CartPole, as TensorBoard and the report show it; what two
commands of docs/descend.md draw. Those for a dark page have the same names, in docs/dark/.
"""

import base64
import os
import shutil
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from core.draw.media import of_few_colours
from tests.core.report.browser import Browser, installed
from tests.pages import commands_of
from tests.tensorboard_page import charts, serving

DOCS = Path(__file__).resolve().parents[1] / "docs"
DESCENT = ["function=himmelblau", "optimizers=[sgd,momentum,rmsprop,adam]"]
RUN = ["agent=ppo", "env=cartpole", "total_steps=100000"]
DRAWN = {  # for docs/descend.md: the section that has the command, which of its commands it is, its picture
    "descend_basins": ("Several optimizers from one start", 0, "basins"),
    "descend_batches": ("On data: one sample, a few, or all", 1, "arrows"),
}
TENSORBOARD, REPORT = (1500, 800), (1280, 1850)  # pixels, width and height
COLOURS = 128  # of a picture
PLACES = {"light": "", "dark": "dark/"}  # below docs/ and a run's media/


def main() -> None:
    """Train, then look."""
    if installed() is None:
        sys.exit("no browser: install chromium (Debian and Ubuntu: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "runs" / "ppo"
        command("gradrl", *RUN, f"hydra.run.dir={directory}")
        command("gradsight-report", f"run={directory}")
        command("descend", *DESCENT, f"hydra.run.dir={folder}/descent")
        for place in PLACES.values():
            shutil.copy(f"{folder}/descent/media/{place}descent_video.gif", DOCS / f"{place}descent.gif")
        for name, (heading, number, drawn) in DRAWN.items():
            _, _, *options = commands_of(DOCS / "descend.md", heading)[number].words
            command("descend", *options, f"pictures=[{drawn}]", f"hydra.run.dir={folder}/{name}")
            for place in PLACES.values():
                with Image.open(f"{folder}/{name}/media/{place}descent_{drawn}.png") as picture:
                    write(picture, f"{place}{name}")
        browser = Browser(Path(folder) / "browser")
        with serving(directory.parent) as address:
            for scheme, place in PLACES.items():
                charts(browser, address, *TENSORBOARD, scheme=scheme)
                keep(browser, f"{place}tensorboard", *TENSORBOARD)
                browser.open(directory / "report.html", *REPORT, scheme=scheme)
                keep(browser, f"{place}report", *REPORT)
        browser.close()


def command(name: str, *words: str) -> None:
    """Run one of our commands by its name, which the report repeats."""
    here = Path(sys.executable).parent
    path = os.pathsep.join([os.fspath(here), os.environ["PATH"]])
    subprocess.run([name, *words], check=True, executable=here / name, env={**os.environ, "PATH": path})


def keep(browser: Browser, name: str, width: int, height: int) -> None:
    """Write what the window shows into docs/."""
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    data = browser.call("Page.captureScreenshot", clip=clip)["data"]
    with Image.open(BytesIO(base64.b64decode(data))) as picture:
        write(picture, name)


def write(picture: Image.Image, name: str) -> None:
    """Write a picture of few colours into docs/."""
    of_few_colours(np.asarray(picture.convert("RGB")), COLOURS).save(DOCS / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
