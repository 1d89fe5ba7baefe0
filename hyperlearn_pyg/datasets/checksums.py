from __future__ import annotations

import hashlib
import os

from hyperlearn_pyg.errors import InputError

#: File name -> (algorithm, digest): as published beside the file by its source, or, for the files of LE-GCN, whose
#: source publishes none, of the copies that the package was tested with.
CHECKSUMS: dict[str, tuple[str, str]] = {
    "ml-100k.zip": ("md5", "0e33842e24a9c977be4e0107933c0723"),
    "NTU2012.content": ("sha256", "09950a7774c3a266ec17df30e0f5979d7aa759d5c69dd6512cbb6319532b5913"),
    "NTU2012.edges": ("sha256", "3de34493d0e37b2d1b7d5df35e0d9246e4d3dff0de39ec4fa7f16abdfacee8b8"),
    "zoo.content": ("sha256", "a6cef38fda93f7987439c4efbbc31c094e1298aa8e7415463e3d6fea8899b560"),
    "zoo.edges": ("sha256", "78907f834a28e4e52758b165883ac348e0f0ff6ba7a0a243e5cd08231d4f311b"),
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
