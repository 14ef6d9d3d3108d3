"""What stands beside the rows of a picture of layers, and above it."""

from os.path import commonprefix

LONGEST = 30  # letters of a layer's name: half of the picture is left to the map
NAMED = 48  # rows that have room for a name


def titled(what: str, player: str) -> str:
    """What is shown, and of whom."""
    return f"{what} of the {player}" if player else what


def named_every(names: list[str]) -> int:
    """Every how manieth row is named."""
    return max(1, -(-len(names) // NAMED))


def shortened(names: list[str]) -> list[str]:
    """Names of at most `LONGEST` letters; an ellipsis stands for what is left out.

    That is first what all names end with, then the beginning of what all begin with. A name that is still too
    long loses its middle, or, where two would become alike, its end, for its number in the picture.
    """
    if max(map(len, names), default=0) <= LONGEST:
        return names
    head, tail = (commonprefix([name[::step] for name in names]) for step in (1, -1))  # noqa: RUF071 (letters)
    head, tail = (part[: part.rfind(".") + 1] for part in (head, tail))  # whole parts of the names
    own = [name[len(head) : len(name) - len(tail)] + ("…" if tail else "") for name in names]
    room = max(LONGEST - max(map(len, own)) - 1, 0)
    texts = [("…" if len(head) > room else "") + head[max(0, len(head) - room) :] + text for text in own]
    half = LONGEST // 2
    short = [text if len(text) <= LONGEST else f"{text[:half]}…{text[1 - half :]}" for text in texts]
    if len(set(short)) == len(set(names)):
        return short
    return [f"{text[: LONGEST - 6]}… {i}" for i, text in enumerate(texts)]
