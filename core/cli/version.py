"""What `--version` says: our version, those of what results depend on, and the device that would be used."""

from core.run.directory import versions


def print_version() -> None:
    """Versions at once; the device after torch has been imported, which alone knows it."""
    found = versions()
    own = found.pop("gradsight", "(not installed)")
    others = ", ".join(f"{name} {version}" for name, version in found.items())
    print(f"gradsight {own}: {others}", flush=True)
    from core.run.device import resolve_device

    device = resolve_device("auto")
    name = ""
    if device.type == "cuda":
        import torch

        name = f" ({torch.cuda.get_device_name(device)})"
    print(f"device=auto is {device}{name}")
