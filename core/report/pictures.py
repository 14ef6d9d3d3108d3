"""What the pictures of a run show, their order, and their size."""

from collections.abc import Iterable, Mapping

MIME = {".png": "image/png", ".gif": "image/gif"}
LANDSCAPE = "landscape/"  # how names of pictures of the landscape begin
LAYERS = {  # ends of the names of pictures that show all layers
    "gradient_heat_map": "Gradient norm of every layer{} over the run, on a logarithmic scale.",
    "gradient_exponents": "How the components of every layer's gradient{} spread over the powers of two, at "
    "the end of the run.",
}


def in_order(names: Iterable[str], captions: Mapping[str, str]) -> list[str]:
    """Names of pictures: those that have a caption first, in its order."""
    names = list(names)
    return list(dict.fromkeys([*(name for name in captions if name in names), *names]))


def caption_of(name: str, captions: Mapping[str, str] | None = None) -> str:
    """What a picture shows, by its name."""
    for end, caption in LAYERS.items():
        if name.endswith(end):
            player = name.removesuffix(end).rstrip("_")
            return caption.format(f" of the {player}" if player else "")
    text = name.removeprefix(LANDSCAPE).replace("_", " ").strip()
    return (captions or {}).get(name, f"{text[:1].upper()}{text[1:]}." if text else "")


def shows_layers(name: str) -> bool:
    """Whether a picture shows all layers."""
    return name.endswith(tuple(LAYERS))


def picture_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels from the head of a PNG or GIF; (0, 0) of anything else."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    return 0, 0
