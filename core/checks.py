"""One way to say that an option is out of range; every config's `__post_init__` uses it."""


def require(ok: bool, name: str, value: object, allowed: str) -> None:
    """Raise unless `ok`, naming the option, what is allowed and what came.

    NaN needs no case of its own: write the test as a comparison that must be true.

    Args:
        ok: whether the value is allowed.
        name: the option as the user writes it, without the path in front (the launcher adds that).
        value: what the user gave.
        allowed: the allowed range in words, to read after "must be".

    Raises:
        ValueError: `ok` is false.
    """
    if not ok:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
