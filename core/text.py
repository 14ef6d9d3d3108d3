"""Names and values as text: what any file and any picture can hold, and what fits on one line."""

import re
from collections.abc import Iterable

COLOUR = re.compile(r"\x1b\[[\d;]*m")  # what sets a terminal's colours
MOST = 70  # characters of a value in a message


def as_text(name: str) -> str:
    """A name with every byte escaped that is no UTF-8: Python keeps those as lone surrogates."""
    return name.encode(errors="backslashreplace").decode()


def words(text: object) -> str:
    """A message of a library's on one line, without the colours that it has for a terminal."""
    return " ".join(COLOUR.sub("", str(text)).split())


def printable(text: str) -> str:
    """A text on one line of a terminal: what cannot be printed is escaped."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def shortened(text: str, most: int = MOST) -> str:
    """A text of at most `most` characters; of a longer one the middle is left out."""
    if len(text) <= most:
        return text
    kept = most - 3
    head = 2 * kept // 3
    return f"{text[:head]}...{text[len(text) - kept + head :]}"


def shown(value: object) -> str:
    """A value as a message shows it: its `repr`, shortened."""
    try:
        return shortened(repr(value))
    except ValueError:  # Python writes no integers of more than some 4,300 digits
        return f"a number of {type(value).__name__} that is too long to be shown"


def listed(names: Iterable[str], most: int = 100) -> str:
    """Names with commas between them; of those beyond `most` characters the number alone."""
    names = list(names)
    fitting = [name for i, name in enumerate(names) if len(", ".join(names[: i + 1])) <= most]
    return ", ".join(fitting) + (f" and {len(names) - len(fitting)} others" if names[len(fitting) :] else "")


def one_line(error: Exception) -> str:
    """A message on one line, as `words`; those too long to be read are shortened, and names in paths."""
    text = as_text(words(error))
    return re.sub(r"\S{256,}|[^\s/]{101,}", lambda word: shortened(word[0]), text)


def told(error: Exception) -> str:
    """What a library says of something typed, shortened; where it names an option, that stands in front."""
    text = shortened(words(str(error).partition("\n    full_key:")[0]), 100)
    option = getattr(error, "full_key", None)
    return f"{shortened(option)}: {text}" if option and option not in text else text
