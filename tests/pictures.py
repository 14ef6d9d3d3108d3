"""Make the pictures of the README anew: `make pictures`. A browser is needed, and two minutes.

Four optimizers on one function, and a run of PPO on CartPole, as TensorBoard and the report show it.
"""

import base64
import os
import shutil
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image

from tests.core.report.browser import Browser, installed
from tests.tensorboard_page import charts, serving

DOCS = Path(__file__).resolve().parents[1] / "docs"
DESCENT = ["function=himmelblau", "optimizers=[sgd,momentum,rmsprop,adam]"]
RUN = ["agent=ppo", "env=cartpole", "total_steps=100000"]
TENSORBOARD, REPORT = (1500, 800), (1280, 1622)  # pixels, width and height


def main() -> None:
    """Train, then look."""
    if installed() is None:
        sys.exit("no browser: install chromium (Debian and Ubuntu: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "runs" / "ppo"
        command("gradrl", *RUN, f"hydra.run.dir={directory}")
        command("gradsight-report", f"run={directory}")
        command("descend", *DESCENT, f"hydra.run.dir={folder}/descent")
        for place, name in (("media", "descent"), ("media/dark", "descent_dark")):
            shutil.copy(Path(folder) / "descent" / place / "descent_video.gif", DOCS / f"{name}.gif")
        browser = Browser(Path(folder) / "browser")
        with serving(directory.parent) as address:
            for scheme, name in (("light", "tensorboard"), ("dark", "tensorboard_dark")):
                charts(browser, address, *TENSORBOARD, scheme=scheme)
                keep(browser, name, *TENSORBOARD)
        browser.open(directory / "report.html", *REPORT)
        keep(browser, "report", *REPORT)
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
        picture.convert("RGB").quantize(128).save(DOCS / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
