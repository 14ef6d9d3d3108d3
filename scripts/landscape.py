"""Draw the loss landscape of a run: `landscape.py run=DIR`; which=[] writes only its page anew."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Interval

from core.checks import Finite, checked, require
from core.cli.command import tool
from core.config import ConfigError, nearest
from core.text import shortened

if TYPE_CHECKING:
    from core.landscape.subject import Subject
    from core.landscape.views import View, ViewConfig

PICTURES = Path("media", "landscape")
WHICH = ("slices", "surface", "path", "walk", "spectrum", "game")


@dataclass(frozen=True, kw_only=True)
@checked
class LandscapeConfig:
    """What to draw; conf/landscape.yaml explains each option."""

    run: str | None
    checkpoint: Literal["last", "best", "good"]
    which: tuple[str, ...] | None
    players: tuple[str, ...] | None
    grid: Annotated[int, Interval(ge=3, le=501)]
    span: Annotated[float, Gt(0), Finite]
    batch_size: Annotated[int | None, Ge(1)]
    seed: Annotated[int, Ge(0)]
    num_threads: Annotated[int | None, Ge(1)]

    def __post_init__(self) -> None:
        require(self.run is not None, "run", self.run, "a run directory: type run=DIR")
        wrong = [name for name in self.which or () if name not in WHICH]
        require(not wrong, "which", ", ".join(wrong), f"null or some of {', '.join(WHICH)}")


def landscape(cfg: LandscapeConfig) -> None:
    """Draw every view, keep pictures and numbers in the run's directory, and make a page of them to walk in.

    Raises:
        ConfigError: there is no such run, checkpoint, player or view, or something of it is damaged.
    """
    from core.landscape.keep import keep
    from core.landscape.page import write_page
    from core.landscape.views import ViewConfig
    from core.run.device import set_num_threads

    set_num_threads(cfg.num_threads)
    directory, began = Path(str(cfg.run)), time.monotonic()
    if cfg.which == ():
        if (page := write_page(directory)) is None:
            raise ConfigError(f"{directory} has no surface yet to make a page of: leave out which=[]")
        print(f"landscape: {page}")
        return
    subject = load(directory, cfg)
    views = wanted(subject, cfg)
    print(f"{subject.place}; loss on {subject.batch}   {time.monotonic() - began:.1f} s", flush=True)
    view_cfg = ViewConfig(grid=cfg.grid, span=cfg.span, seed=cfg.seed)
    for player, name, draw in views:
        began = time.monotonic()
        tag = f"{player}_{name}".lstrip("_")
        try:
            view = draw(view_cfg)
        except (ValueError, RuntimeError, FloatingPointError) as error:
            if cfg.which is not None:
                raise ConfigError(f"which={name} cannot be drawn: {error}") from error
            print(f"{tag}: not drawn: {error}", flush=True)
            continue
        picture = keep(subject, tag, view, cfg.seed)
        print(f"{tag}: {view.line}   {time.monotonic() - began:.1f} s   {picture}", flush=True)
    if (page := write_page(directory)) is not None:
        print(f"to turn and to walk in: {page}")


def load(directory: Path, cfg: LandscapeConfig) -> "Subject":
    """The run's losses on a frozen batch.

    Raises:
        ConfigError: there is no such run or checkpoint, or it may not be written.
    """
    from core.cli.saved import saved_options
    from core.run.files import refuse_unwritable

    target = str(saved_options(directory)["_target_"])
    kind = target.partition(".")[0]
    if target.startswith("core.watch."):
        raise ConfigError(f"{directory} holds a loop of your own: call its Watch.landscape() there")
    if kind == "gradrl":
        from gradrl.landscape import load_probe
    elif kind == "gradgan":
        from gradgan.landscape import load_probe
    else:
        raise ConfigError(f"{directory} holds a descent, whose landscape its own pictures show")
    if not (directory / "checkpoints" / f"{cfg.checkpoint}.pt").exists():
        raise ConfigError(f"{directory} has no checkpoint {cfg.checkpoint}.pt yet")
    refuse_unwritable(directory / "landscape.json", directory / PICTURES / "slices.png")
    return load_probe(directory, cfg.checkpoint, batch_size=cfg.batch_size, seed=cfg.seed)


def wanted(subject: "Subject", cfg: LandscapeConfig) -> "list[tuple[str, str, Callable[[ViewConfig], View]]]":
    """Player (empty for both, or a single one), view and what draws it, in order.

    Raises:
        ConfigError: no player of that name.
    """
    from core.landscape import views

    names = {name or "agent": name for name in subject.objectives}
    for name in cfg.players or ():
        if name not in names:
            raise ConfigError(
                f"players must be some of {', '.join(names)}, got {shortened(name)}{nearest(name, names)}"
            )
    which = cfg.which or [name for name in WHICH if name != "game" or subject.game]
    found = [
        (names[player], name, partial(views.VIEWS[name], subject, names[player]))
        for player in cfg.players or names
        for name in which
        if name != "game"
    ]
    return [*found, ("", "game", partial(views.game, subject))] if "game" in which else found


def main() -> None:
    tool("landscape", landscape)


if __name__ == "__main__":
    main()
