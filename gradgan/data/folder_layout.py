"""What the paths of images tell: which images are held out, and the class of each."""

from typing import NamedTuple

import torch

from core.config import ConfigError
from gradgan.data.image_files import NAMED
from gradgan.images import SPLIT_SEED

Name = tuple[str, ...]  # a path below the root, as its parts
TRAIN = ("train", "training")
HELD_OUT = ("test", "testing", "val", "valid", "validation", "dev", "eval", "evaluation")


class Layout(NamedTuple):
    """The parts of a data set.

    Attributes:
        train: images to train on, in random order (always the same).
        held_out: images for the metrics, likewise.
        labels: class of each of `train` and then of `held_out`, or None.
        num_classes: number of classes, or None.
        summary: all of this as one line of text.
    """

    train: list[Name]
    held_out: list[Name]
    labels: list[int] | None
    num_classes: int | None
    summary: str


def lay_out(names: list[Name], option: str, *, labels: bool, held_out: float) -> Layout:
    """Divide images by their paths, as `Folder` says.

    Args:
        names: sorted, at least one.
        option: the name of the folder in messages.
        labels: whether sub-folders are classes.
        held_out: 0, or the share (below 1) or number of images to hold out.

    Raises:
        ConfigError: there are several folders that could be the held-out part; or there is one, and
            `held_out` asks for another; or `held_out` leaves nothing to one of the parts; or the held-out
            part has a class that the training part has not.
    """
    depth = _shared(names)
    train, test, how = _split(names, depth, option)
    if test and held_out:
        raise ConfigError(f"data.held_out must be 0, since {option} has {how} of its own, got {held_out}")
    start = depth + 1 if test else depth  # of the part of a name that tells the class
    classes, why = _classes(train, test, start, option) if labels else (None, "data.labels=false")
    train, test = _shuffled(train), _shuffled(test)
    if held_out:
        count = round(held_out * len(train)) if held_out < 1 else int(held_out)
        if not 0 < count < len(train):
            raise ConfigError(
                f"data.held_out must leave some of the {len(train)} images of {option} to both parts, "
                f"got {held_out}"
            )
        test, train, how = train[:count], train[count:], f"data.held_out={held_out}"
    parts = f"{len(train)} images to train on, " + (
        f"{len(test)} held out ({how})" if test else "none held out (data.held_out=0.1 would keep a tenth)"
    )
    if classes is None:
        return Layout(train, test, None, None, f"{parts}; no labels: {why}")
    number = {name: index for index, name in enumerate(classes)}
    rest = f" and {len(classes) - NAMED} more" if len(classes) > NAMED else ""
    return Layout(
        train,
        test,
        [number[name[start]] for name in train + test],
        len(classes),
        f"{parts}; {len(classes)} classes: {', '.join(classes[:NAMED])}{rest}",
    )


def _shared(names: list[Name]) -> int:
    """How many folders all of the names begin with."""
    first, last = names[0], names[-1]  # sorted: what these two share, all share
    depth = 0
    while depth < min(len(first), len(last)) - 1 and first[depth] == last[depth]:
        depth += 1
    return depth


def _split(names: list[Name], depth: int, option: str) -> tuple[list[Name], list[Name], str]:
    """The training part, the held-out part (perhaps empty) and the name of its folder."""
    folders = {name[depth] for name in names if len(name) > depth + 1}
    loose = any(len(name) == depth + 1 for name in names)
    own = [name for name in names if name[depth].lower() in TRAIN]
    others = {folder for folder in folders if folder.lower() not in TRAIN}
    held_out = {folder for folder in others if folder.lower() in HELD_OUT}
    # A train/ that has folders of its own is no class, whatever stands next to it.
    split = held_out or any(len(name) > depth + 2 for name in own)
    if loose or not own or not others or not split:
        return names, [], ""
    if len(folders) > 2 or not held_out:
        raise ConfigError(
            f"{option} has the folders {', '.join(sorted(folders))}: keep train and one other, which is held"
            f" out (test, val, ...), or name one of them: data.root=.../{own[0][depth]}"
        )
    test = [name for name in names if name[depth] in held_out]
    return own, test, f"{test[0][depth]}/"


def _classes(train: list[Name], test: list[Name], start: int, option: str) -> tuple[list[str] | None, str]:
    """The classes in order, or None and why there are none."""
    outside = [len(name) < start + 2 for name in train + test]
    classes = sorted({name[start] for name in train})
    if all(outside) or len(classes) < 2:
        return None, "there are fewer than two sub-folders"
    if any(outside):
        return None, "some images lie outside sub-folders"
    unknown = sorted({name[start] for name in test} - set(classes))
    if unknown:
        raise ConfigError(
            f"{option}: the held-out part has classes that the training part has not: "
            f"{', '.join(unknown[:NAMED])}; add them, or set data.labels=false"
        )
    return classes, ""


def _shuffled(names: list[Name]) -> list[Name]:
    """An order that is part of the data set: any first part is a random sample of it."""
    random = torch.Generator().manual_seed(SPLIT_SEED)
    return [names[index] for index in torch.randperm(len(names), generator=random).tolist()]
