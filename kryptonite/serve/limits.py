"""What the service takes at most."""

import math
from dataclasses import dataclass

from kryptonite.core.errors import ConfigError
from kryptonite.core.images import MAX_MEGAPIXELS

_LARGE_PHOTOS = 4  # photos of the largest size that a request of more photos may hold together
_FORM_BYTES = 2**16  # room for the fields beside the photos, and for the form around them


@dataclass(frozen=True)
class Limits:
    """Bounds on requests; together they bound the memory and the time that clients can take.

    Args:
        photo_megabytes: Size of a photo's file, in millions of bytes.
        megapixels: Size of a photo, in millions of pixels; at most what is decoded,
            `core.images.MAX_MEGAPIXELS`.
        requests: Requests that are received or wait at a time; more are answered with 503.
        uploads: Requests of one client that are received at a time; more are answered with 429.
        batch: Requests computed at a time.
        upload_seconds: Time for a request's body to arrive.
        answer_seconds: Time from the whole body to the answer.

    Raises:
        ConfigError: A limit is not above 0, or infinite, or larger photos are never decoded.
    """

    photo_megabytes: float = 10.0
    megapixels: float = 30.0
    requests: int = 64
    uploads: int = 16
    batch: int = 16
    upload_seconds: float = 20.0
    answer_seconds: float = 30.0

    def __post_init__(self):
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                raise ConfigError(f"{name} must be above 0 and finite, got {value}")
        if self.megapixels > MAX_MEGAPIXELS:
            raise ConfigError(
                f"megapixels must be at most {MAX_MEGAPIXELS}, the largest photo that is decoded, "
                f"got {self.megapixels:g}"
            )

    @property
    def photo_bytes(self) -> int:
        """Largest photo file."""
        return int(self.photo_megabytes * 1e6)

    @property
    def photo_pixels(self) -> int:
        """Largest photo."""
        return int(self.megapixels * 1e6)

    @property
    def request_pixels(self) -> int:
        """Largest size of a request's photos together."""
        return _LARGE_PHOTOS * self.photo_pixels

    def body_bytes(self, photos: int) -> int:
        """Largest body of a request with this many photos; base64 takes a third more."""
        return min(photos, _LARGE_PHOTOS) * (self.photo_bytes * 4 // 3 + 4) + _FORM_BYTES
