"""A real TensorBoard, and what a browser shows of its page of charts."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.core.report.browser import Browser

PATIENCE_S = 120
# Every chart of the page: its title, and its curves; each is drawn twice, as it is and smoothed,
# or once where both are one.
CHARTS = """(() => {
  function* all(root, selector) {
    for (const element of root.querySelectorAll("*")) {
      if (element.matches(selector)) yield element;
      if (element.shadowRoot) yield* all(element.shadowRoot, selector);
    }
  }
  const drawn = path => (path.getAttribute("d") || "").length > 1;
  return [...all(document, "tf-custom-scalar-multi-line-chart-card")].map(card => [
    [...all(card.shadowRoot, "tf-card-heading")].map(heading => heading.displayName)[0],
    Math.ceil([...all(card.shadowRoot, "path.line")].filter(drawn).length / 2),
  ]);
})()"""


@contextmanager
def serving(logdir: Path) -> Iterator[str]:
    """The address of a TensorBoard that shows a folder of runs."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", logdir.name, "--port", "0"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=logdir.parent, text=True, **pipes) as server:
        try:
            assert server.stderr is not None
            found = next(filter(None, (re.search(r"http://localhost:\d+/", line) for line in server.stderr)))
            yield found[0]
        finally:
            server.terminate()


def charts(
    browser: Browser, address: str, width: int, height: int, *, scheme: str = "light"
) -> list[tuple[str, int]]:
    """Title and number of lines of every chart of the page, once all that are open have drawn theirs."""
    dark = "?darkMode=true" if scheme == "dark" else ""
    browser.open(f"{address}{dark}#custom_scalars", width, height, scheme=scheme)
    deadline, before = time.monotonic() + PATIENCE_S, None
    while time.monotonic() < deadline:
        found = browser.ask(CHARTS)
        if found and found == before and all(lines for _, lines in found):
            return [(title, int(lines)) for title, lines in found]
        before = found
        time.sleep(1)
    raise AssertionError(f"charts without lines after {PATIENCE_S} s: {before}")
