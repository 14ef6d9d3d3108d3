"""What third-party simulators need around them: packages, a quiet console, a way to draw without a screen."""

import contextlib
import importlib
import logging
import os
import re
import sys
import warnings

EXTRAS = {  # module: (package, the extra of ours that brings it)
    "mujoco": ("mujoco", "mujoco"),
    "Box2D": ("box2d", "box2d"),
    "ale_py": ("ale-py", "atari"),
    "cv2": ("opencv-python-headless", "atari"),
    "minigrid": ("minigrid", "minigrid"),
}
REGISTERED_BY = {  # ids that begin so, and the module that brings them
    "ALE/": "ale_py",
    "MiniGrid-": "minigrid",
    "BabyAI-": "minigrid",
    "MinAtar/": "minatar.gym",
}


def missing_package(error: BaseException) -> str | None:
    """What to install, where this error comes from a package that is not there; None for other errors."""
    cause: BaseException | None = error
    while cause is not None:
        found = re.search(r"No module named '(\w+)", str(cause))
        module = (cause.name if isinstance(cause, ModuleNotFoundError) else None) or (found and found[1])
        if module:
            module = module.partition(".")[0]
            package, extra = EXTRAS.get(module, (module, None))
            install = f": pip install 'gradsight[{extra}]'" if extra else ", which is not installed"
            return f"the package {package}{install}"
        cause = cause.__cause__ or cause.__context__
    return None


def quiet() -> None:
    """Silence the simulators that have been imported; errors and a handler of the user's stay.

    MuJoCo prints every warning and appends it to MUJOCO_LOG.TXT in the working directory; since version 4
    there is one about `settotalmass` for each copy of Gymnasium's HalfCheetah. Here its warnings become
    Python's, and those about old model files are dropped. ale-py introduces itself in every process.
    """
    mujoco, ale = sys.modules.get("mujoco"), sys.modules.get("ale_py")
    if mujoco is not None and mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_warn)
    if ale is not None:
        ale.ALEInterface.setLoggerMode(ale.LoggerMode.Error)


def _warn(text: str) -> None:
    if "is deprecated" not in text:
        # The time would make every message a new one, and print each.
        warnings.warn(f"MuJoCo: {text.partition(' Time =')[0]}", RuntimeWarning, stacklevel=2)


def draw_without_screen() -> None:
    """Let pygame and MuJoCo draw into memory; to be called before the environment is made."""
    for kind in ("VIDEO", "AUDIO"):  # pygame would look for a screen, which drawing into arrays does not need
        os.environ.setdefault(f"SDL_{kind}DRIVER", "dummy")
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform == "linux" and not screen:
        # Gymnasium's own search would stop at GLFW, which fails without a screen. Not set before a video is
        # wanted: where EGL is missing, training must not notice.
        os.environ.setdefault("MUJOCO_GL", "egl")
    logging.getLogger("OpenGL").setLevel(logging.WARNING)  # tells everyone which accelerator it does not have


def load_triton_first() -> None:
    """Import triton, which crashes the process when torch imports it after MuJoCo has drawn without a screen.

    Triton and Mesa's software renderer each bring an LLVM. To be called once the environment is made, before
    its first picture.
    """
    if "mujoco" in sys.modules:
        with contextlib.suppress(ImportError):
            importlib.import_module("triton")
