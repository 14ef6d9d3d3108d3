"""Names as text that any file and any picture can hold."""


def as_text(name: str) -> str:
    """A name with every byte escaped that is no UTF-8: Python keeps those as lone surrogates."""
    return name.encode(errors="backslashreplace").decode()
