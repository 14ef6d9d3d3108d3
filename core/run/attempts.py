"""What only watches a training never ends it."""

from collections.abc import Callable, Mapping
from typing import TypeVar

Value = TypeVar("Value")


class Attempts:
    """Measurements and pictures: where one fails, it is left out, and the reason is said once.

    Args:
        say: prints one line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: set[str] = set()

    def __call__(self, name: str, look: Callable[[], Mapping[str, Value]]) -> dict[str, Value]:
        """What `look` finds, by tag; nothing where it fails.

        Args:
            name: of the measurement, for the line; a name is heard of once.
            look: measures or draws.
        """
        try:
            return dict(look())
        except Exception as error:  # whatever it is, the training can do without
            if name not in self._said:
                self._said.add(name)
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                self._say(f"left out, and the training goes on: {name}: {reason}")
            return {}
