"""Refusals with a status, a code for programs and a sentence for people."""

from collections.abc import Mapping

# What each code means, for the API's description; the sentence of an answer is more specific.
CODES = {
    "malformed_body": (400, "The body is not what its Content-Type says."),
    "unauthorized": (401, "The API key is missing or wrong."),
    "not_found": (404, "There is nothing at this address."),
    "no_gate": (404, "The service was started without a gate."),
    "method_not_allowed": (405, "This address does not take this method."),
    "upload_timeout": (408, "The body did not arrive in time."),
    "body_too_large": (413, "The body exceeds the limit."),
    "image_too_large": (413, "A photo has more bytes or pixels than the limit."),
    "image_too_long": (413, "A photo has more pixels on a side than the limit."),
    "too_many_parts": (413, "The body has more files or values than the request takes."),
    "unsupported_media_type": (415, "The body is neither a multipart form nor JSON."),
    "missing_photo": (422, "A photo is missing."),
    "unknown_field": (422, "The request takes no field of this name."),
    "repeated_field": (422, "A field is given twice."),
    "invalid_value": (422, "A field has a value of the wrong kind."),
    "unknown_threshold": (422, "The run has no threshold of this name."),
    "references_unsupported": (422, "The run is not calibrated for several references."),
    "unreadable_image": (422, "A photo cannot be decoded."),
    "too_many_uploads": (429, "The client sends too many requests at a time."),
    "internal_error": (500, "The service failed."),
    "busy": (503, "Too many requests are waiting."),
    "answer_timeout": (503, "The answer took too long."),
    "stopping": (503, "The service is stopping."),
}
RETRY_SECONDS = 1  # after which a busy service is worth another try


class ServiceError(Exception):
    """A request is refused.

    Args:
        code: A key of `CODES`, which gives the status.
        message: One sentence; `CODES` has one for every code.
    """

    def __init__(self, code: str, message: str = ""):
        self.code = code
        self.status, usual = CODES[code]
        self.message = message or usual
        super().__init__(self.message)

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the answer."""
        if self.status in (429, 503):
            return {"Retry-After": str(RETRY_SECONDS)}
        if self.status in (408, 413):
            return {"Connection": "close"}  # the rest of the body is not read
        return {}
