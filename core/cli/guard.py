"""How a command ends: one line and a status, whatever was typed, pressed or closed."""

import errno
import gc
import os
import signal
import sys
from collections.abc import Callable
from io import TextIOWrapper

from core.cli.allocator import keep_freed_memory
from core.config import ConfigError
from core.errors import ContractError
from core.text import one_line


def guarded(main: Callable[[], int], explain: Callable[[], str | None] = lambda: None) -> int:
    """Call `main` and return the exit status; whatever is no fault of this program ends it in one line.

    Args:
        main: returns the exit status.
        explain: a better line than that of a ConfigError, where there is one.
    """
    keep_freed_memory()
    if isinstance(sys.stdout, TextIOWrapper):  # a name that the terminal cannot show is shown escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main()
        sys.stdout.flush()
    except ConfigError as error:
        print(f"error: {one_line(ConfigError(explain() or error))}", file=sys.stderr)
        return 2
    except ContractError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
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
