from __future__ import annotations

import hashlib
import os

from hyperlearn_pyg.errors import InputError

#: File name -> (algorithm, digest), as published beside the file by its source.
CHECKSUMS: dict[str, tuple[str, str]] = {
    "ml-100k.zip": ("md5", "0e33842e24a9c977be4e0107933c0723"),
}


def verify(path: str | os.PathLike[str], name: str) -> None:
    """Check a downloaded file against the published checksum of ``name``.

    Raises:
        InputError: they differ.
    """
    algorithm, expected = CHECKSUMS[name]
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise InputError(
            f"'{name}' has the {algorithm} checksum {digest.hexdigest()}, expected {expected}: the download is "
            f"damaged or not the published file. Try again"
        )
