"""One trial in a process of its own, which stops when the search that has begun it dies.

`python -m core.tune.child MODULE NAME WORDS...` calls the command of that module as if NAME had been typed.
"""

import importlib
import sys

from core.cli.stopping import stops_with


def main() -> None:
    """Call the command."""
    module, name, *words = sys.argv[1:]
    sys.argv = [name, *words]
    with stops_with():
        importlib.import_module(module).main()


if __name__ == "__main__":
    main()
