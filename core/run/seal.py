"""The seal of a checkpoint: a digest of its bytes, in the comment of the archive that `torch.save` writes.

The archive's own CRC-32 of every tensor would do, but torch does not read them, and computing them takes half
as long as loading. The digest takes a twentieth: sums of blocks, which run at the speed of memory, hashed.
"""

import hashlib
import mmap
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

MARK = b"gradsight blake2b of sums "
SIZE = 16  # bytes of the digest
BLOCK = 4096  # bytes of one sum


def seal(file: BinaryIO) -> None:
    """Append the digest to the archive that has just been written to `file`, open for reading too."""
    file.seek(-2, 2)  # the length of the archive's comment, its last field
    file.write((len(MARK) + SIZE).to_bytes(2, "little"))
    file.flush()
    with _mapped(file) as data:
        digest = _digest(data, len(data))
    file.write(MARK + digest)


def unchanged(path: Path) -> bool:
    """Whether a file is what was written; one without a seal is judged by the checksums of the archive.

    Raises:
        Exception: it is no archive, or a damaged one.
    """
    with path.open("rb") as file, _mapped(file) as data:
        end = len(data) - len(MARK) - SIZE
        if end > 0 and data[end : end + len(MARK)] == MARK:
            return data[end + len(MARK) :] == _digest(data, end)
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() is None


def _digest(data: mmap.mmap, size: int) -> bytes:
    """BLAKE2b over the sums of 64-bit words, modulo 2^64, of all blocks of the first `size` bytes.

    One changed bit changes its block's sum by a power of two, and a block that is lost, zeroed or exchanged
    for another has another sum; only changes within one block that cancel each other go unnoticed.
    """
    whole = size - size % BLOCK
    words = np.frombuffer(data, "<u8", whole // 8).reshape(-1, BLOCK // 8)
    digest = hashlib.blake2b(words.sum(1, dtype=np.uint64).astype("<u8").tobytes(), digest_size=SIZE)
    del words  # the file cannot be unmapped before
    digest.update(data[whole:size])
    return digest.digest()


def _mapped(file: BinaryIO) -> mmap.mmap:
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
