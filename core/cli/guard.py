"""How a command ends: one line and a status, whatever was typed, pressed or closed."""

import errno
import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path

from core.cli.allocator import keep_freed_memory
from core.cli.ranked import say_error
from core.config import ConfigError
from core.errors import ContractError, RankLostError
from core.text import one_line


def guarded(main: Callable[[], int], explain: Callable[[], str | None] = lambda: None) -> int:
    """Call `main` and return the exit status; whatever is no fault of this program ends it in one line.

    Args:
        main: returns the exit status.
        explain: a better line than that of a ConfigError, where there is one.
    """
    keep_freed_memory()
    warnings.formatwarning = _as_line
    if isinstance(sys.stdout, TextIOWrapper):  # a name that the terminal cannot show is shown escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main()
        sys.stdout.flush()
    except ConfigError as error:
        say_error(one_line(ConfigError(explain() or error)))
        return 2
    except ContractError as error:
        say_error(one_line(error), lost=isinstance(error, RankLostError))
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader (`--help | head`) has seen enough; what is still to be written goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
            raise
        print(f"error: {error.strerror}: {str(error.filename)[:80]}...", file=sys.stderr)
        return 2
    finally:
        gc.enable()
    return status


def _as_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning of our own as one line; another's names the place that it comes from, too."""
    from core.cli.choices import CLASS, YamlFile  # here, so that a command without one starts without them
    from core.config import config_dir

    root, targets = (
        Path(__file__).parents[2],
        (YamlFile(p).content[CLASS] for p in config_dir().glob("*.yaml")),
    )
    own = any(Path(filename).is_relative_to(root / target.partition(".")[0]) for target in targets)
    return f"warning: {one_line(Warning(message))}" + ("\n" if own else f" ({filename}:{lineno})\n")
