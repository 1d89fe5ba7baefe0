from __future__ import annotations

import hashlib
import os

from hyperlearn_pyg.errors import InputError

#: File name -> (algorithm, digest): as published beside the file by its source (ml-100k.zip), as recorded by public
#: projects that load it (hetrec2011-lastfm-2k.zip), or, where the source publishes none, of the copies that the package
#: was tested with (all others).
CHECKSUMS: dict[str, tuple[str, str]] = {
    "ml-100k.zip": ("md5", "0e33842e24a9c977be4e0107933c0723"),
    "NTU2012.content": ("sha256", "09950a7774c3a266ec17df30e0f5979d7aa759d5c69dd6512cbb6319532b5913"),
    "NTU2012.edges": ("sha256", "3de34493d0e37b2d1b7d5df35e0d9246e4d3dff0de39ec4fa7f16abdfacee8b8"),
    "zoo.content": ("sha256", "a6cef38fda93f7987439c4efbbc31c094e1298aa8e7415463e3d6fea8899b560"),
    "zoo.edges": ("sha256", "78907f834a28e4e52758b165883ac348e0f0ff6ba7a0a243e5cd08231d4f311b"),
    "hetrec2011-lastfm-2k.zip": ("sha256", "6738f48195667ff03caaab4d32ca9a3133d8cc026b7c3cdaf6ce1010e913c59c"),
    "getd/JF17K-4/train.txt": ("sha256", "7e6489eb9ca023414d9fa79a3af16e41777ebfd4f7e87b6a15661ac471e48191"),
    "getd/JF17K-4/valid.txt": ("sha256", "5a824b2944274f1fe58b89cedd6a3655f4fe7ffc2603eb4de64ba89af64f22c1"),
    "getd/JF17K-4/test.txt": ("sha256", "d0ca4ca06eec89cc8777bec83a7b92ad5cb924deb264354e93dd800306ee8abb"),
    "getd/WikiPeople-3/train.txt": ("sha256", "6d944f39e490d80cddddfeb8f85634be76e326e0178e4288eedc826c1911dce6"),
    "getd/WikiPeople-3/valid.txt": ("sha256", "e744f34df7967cdb74cad11dec1073018d8a63ad36b6319483b71689db30d54f"),
    "getd/WikiPeople-3/test.txt": ("sha256", "f4732b43b34f77cb5a1f96a773be069accacd61ebc11b5e7212bea16553fc2cf"),
    "getd/WikiPeople-4/train.txt": ("sha256", "683e2ebfbed9c833ef1d1e4536071e1926413e30c951f54a4d376d8518d848bb"),
    "getd/WikiPeople-4/valid.txt": ("sha256", "0e7fdbe1291cf82eb696f1b368423b4ac59af81508dea43cfbb307a1dfa45463"),
    "getd/WikiPeople-4/test.txt": ("sha256", "24fa3efa022e25402c223c4d7cb701d3121dde34108abc9fdcc5afa85e4c6fe3"),
    "dataset_connected_NYC.mat": ("sha256", "e05833c2d35ec0cf71cd53e5c9bfc46b25eae73a65fadbd00de760a5f6417fcb"),
    "wiki/raw_features.mat": ("sha256", "ca628f765a69575e168ab29eb97f5ade12fadf47b31de1328c7ff631c7f225ae"),
    "wiki/trainset_txt_img_cat.list": (
        "sha256",
        "30c1ba8afbe90da5986de9b12496b6dd2e4680d3876b79ab7aae2e437d5819a3",
    ),
    "wiki/testset_txt_img_cat.list": (
        "sha256",
        "ec3123ee31cc89dd95fbeb23eb73b2ecfd1d8909bba863723471aad99408c1eb",
    ),
    "wiki/categories.list": ("sha256", "4929f3ee00e9de9ffe11f9ab18fc8919b0f6182cc801309409df2f2d05e2b0f5"),
    "citeulike-a/users.dat": ("sha256", "53211d82c14ff261e595634d285ed9fbf8049cf81dcb751d924d695b9612a02c"),
    "citeulike-a/item-tag.dat": ("sha256", "0f7b432796a5038ed2631c02b99d70e636123673afc11bf9e051de5b49467890"),
    "citeulike-a/citations.dat": ("sha256", "78458ba6b6f013552c43f47dbec1c2d19073820155c40567744cd8a038044364"),
    "citeulike-a/tags.dat": ("sha256", "c02b3e5ee1a57f88f3a598b2040018bb198f54cd0c11116fa7a0db905b6f60e3"),
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
