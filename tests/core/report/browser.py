"""A headless Chromium, asked over a pipe: the DevTools protocol without a driver, a port or a download."""

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_S = 60
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--no-first-run", "--disable-background-networking", "--disable-extensions", "--disable-sync",
    "--remote-debugging-pipe",
)  # fmt: skip


def installed() -> str | None:
    """Path of a browser, None without one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page in one browser; `close` ends it.

    Args:
        profile: an empty folder for what the browser keeps.
        flags: more of them.
    """

    def __init__(self, profile: Path, *flags: str) -> None:
        there, self._writes = os.pipe()
        self._reads, back = os.pipe()
        # The protocol wants descriptors 3 and 4; ours must be out of their way first.
        there, back = (_moved(end) for end in (there, back))
        command = [str(installed()), *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
        places = [(os.POSIX_SPAWN_DUP2, there, 3), (os.POSIX_SPAWN_DUP2, back, 4)]
        quiet = [(os.POSIX_SPAWN_OPEN, i, os.devnull, os.O_WRONLY, 0) for i in (1, 2)]
        self._process = os.posix_spawn(command[0], command, os.environ, file_actions=[*places, *quiet])
        os.close(there)
        os.close(back)
        self._ids = itertools.count(1)
        self._rest = b""
        self.events: list[dict] = []
        self._session = ""
        target = next(
            t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"
        )["targetId"]  # fmt: skip
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params) -> dict:
        """One command and its answer; events that come between are kept."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def open(
        self, path: Path | str, width: int, height: int = 900, *, scheme: str = "light", media: str = ""
    ) -> None:
        """Load a file or an address at a window's size, light or dark, as on screen or (`print`) on paper."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)  # fmt: skip
        self.call("Emulation.setEmulatedMedia", media=media,
                  features=[{"name": "prefers-color-scheme", "value": scheme}])  # fmt: skip
        self.events.clear()
        self.call("Page.navigate", url=path if isinstance(path, str) else path.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def ask(self, script: str):
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def happened(self, *methods: str) -> list[dict]:
        """Parameters of the events of these kinds since the page was opened."""
        return [event["params"] for event in self.events if event.get("method") in methods]

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """A PNG of the page, or of what the window shows."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def pdf(self, path: Path) -> None:
        """The page as it would be printed, on A4."""
        data = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=False)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """End the browser."""
        os.close(self._writes)
        os.close(self._reads)
        os.kill(self._process, signal.SIGTERM)
        os.waitpid(self._process, 0)

    def _receive(self) -> dict:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._reads], [], [], PATIENCE_S)
            assert ready, f"the browser has said nothing for {PATIENCE_S} s"
            part = os.read(self._reads, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


def _moved(descriptor: int) -> int:
    """The same under a number of 10 or more."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved
