"""Pictures and videos as data URIs, each in a card as wide as it deserves."""

import base64
from collections.abc import Iterable
from html import escape
from pathlib import Path

MIME = {".png": "image/png", ".gif": "image/gif"}
WIDE = 1.6  # width over height from which a picture takes two columns
LAYER_PICTURES = ("gradient_heat_map", "gradient_exponents")  # ends of the names of what shows all layers
GAME_PICTURES = ("logits", "eigenvalues", "path_angle")  # of two players
LANDSCAPE = "landscape/"  # how names of pictures of the landscape begin
CAPTIONS = {
    "agent": "One episode of the agent, played by its latest parameters.",
    "samples": "What the generator makes of the same random inputs, with its latest averaged weights.",
    "interpolations": "From one random input to another, in even steps.",
    "neighbours": "Generated images, and beside each the nearest images of the training data.",
    "logits": "Outputs of the discriminator for real and for generated samples.",
    "eigenvalues": "Eigenvalues of the game's Jacobian: imaginary parts turn, negative real parts attract.",
    "path_angle": "Angle between the field of both players and the path they took.",
    "descent_path": "The path over the level lines of the function, and its known critical points.",
    "descent_surface": "The function as a surface, with the path on it.",
    "descent_video": "The descent, step by step.",
    "descent_basins": "Where each start ends.",
    "descent_curves": "What was measured along the way.",
    "descent_arrows": "Gradients of single batches at a few points, and where they lead.",
}
TURNED = ' <span class="in-dark">Turned around for the dark page, the scale too.</span>'
# Pictures whose colours are their content; all others are diagrams on white paper: a dark page turns them.
PHOTOGRAPHS = ("agent", "samples", "interpolations", "neighbours")


def picture(path: Path, name: str, run: str = "", facts: str = "", *, in_plane: bool = False) -> str:
    """One file of a run's `media/` as a card.

    Args:
        path: the file.
        name: of the picture.
        run: name of the run, where there are several.
        facts: to stand below the caption, as HTML.
        in_plane: samples are points in the plane, not images.
    """
    data = path.read_bytes()
    width, height = picture_size(data)
    wide = " wide" if height and width / height >= WIDE else ""
    wide = " large" if name.endswith("path") and not run else wide  # fine lines, and labels on them
    caption = escape((f"Run {run}. " if run else "") + caption_of(name))
    drawn = "" if name in PHOTOGRAPHS and not in_plane else " diagram"
    facts = f'<p class="told">{facts}</p>' if facts else ""
    turned = TURNED if drawn and (name.endswith(LAYER_PICTURES) or name.startswith(LANDSCAPE)) else ""
    uri = f"data:{MIME[path.suffix]};base64,{base64.b64encode(data).decode('ascii')}"
    size = f' width="{width}" height="{height}"' if height else ""
    return (
        f'<figure class="card picture{wide}{drawn}"><img alt="{caption}"{size} src="{uri}">'
        f"<figcaption>{caption}{turned}{facts}</figcaption></figure>\n"
    )


def in_order(names: Iterable[str]) -> list[str]:
    """Names of pictures, those to be seen first at the front."""
    first = [name for name in CAPTIONS if name in names]
    return list(dict.fromkeys([*first, *names]))


def caption_of(name: str) -> str:
    """What a picture shows, by its file's name."""
    if name.endswith("gradient_heat_map"):
        player = name.removesuffix("gradient_heat_map").rstrip("_")
        of = f" of the {player}" if player else ""
        return f"Gradient norm of every layer{of} over the run, on a logarithmic scale."
    if name.endswith("gradient_exponents"):
        player = name.removesuffix("gradient_exponents").rstrip("_")
        of = f" of the {player}" if player else ""
        return f"How the components of every layer's gradient{of} spread over the powers of two, at the end."
    words = name.removeprefix(LANDSCAPE).replace("_", " ").strip()
    return CAPTIONS.get(name, f"{words[:1].upper()}{words[1:]}." if words else "")


def picture_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels from the head of a PNG or GIF; (0, 0) of anything else."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    return 0, 0
