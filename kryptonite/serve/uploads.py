"""Reads a request's photos and options from a form or from JSON, in memory and within limits."""

import base64
import binascii
import json
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from anyio import fail_after
from anyio.to_thread import run_sync
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from kryptonite.core.images import count_pixels
from kryptonite.fusion.references import MOST as MOST_REFERENCES
from kryptonite.serve.errors import ServiceError
from kryptonite.serve.limits import Limits
from kryptonite.serve.work import too_many_pixels

_OPTION_BYTES = 2**10  # of an option's value in a form
_LARGEST_NUMBER = 1e9  # far above any similarity, far below what overflows where it is weighed
_JSON_COMMAS = 100  # no request needs as many; millions of values would stop everything for seconds


@dataclass(frozen=True)
class Form:
    """What a request takes.

    Args:
        photos: Names of the photos, all of them required.
        options: Names of the other fields.
        several: Name of a field that holds one to `MOST_REFERENCES` photos: repeated in a form, a
            list in JSON.
    """

    photos: tuple[str, ...]
    options: tuple[str, ...] = ()
    several: str | None = None

    @property
    def most_photos(self) -> int:
        """Number of photos at most."""
        return len(self.photos) + (MOST_REFERENCES if self.several else 0)


@dataclass(frozen=True, eq=False)
class Upload:
    """A request's body.

    Args:
        photos: Name and file's bytes of each photo; those of several are called `references[0]` …
        options: What was given of the other fields: text from a form, any value from JSON.
        pixels: Size of the photos together, as their headers announce it.
    """

    photos: tuple[tuple[str, bytes], ...]
    options: dict[str, Any]
    pixels: int

    def text(self, name: str, default: str) -> str:
        """An option's text.

        Raises:
            ServiceError: It is something else (`invalid_value`).
        """
        value = self.options.get(name, default)
        if not isinstance(value, str):
            raise ServiceError("invalid_value", f"{name}: must be text.")
        return value

    def number(self, name: str) -> float:
        """A number that must be given, as text in a form.

        Raises:
            ServiceError: It is missing, something else, not finite or beyond all reason
                (`invalid_value`).
        """
        value = self.options.get(name)
        try:
            number = math.nan if isinstance(value, bool | None) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not abs(number) <= _LARGEST_NUMBER:  # not a number is not
            raise ServiceError(
                "invalid_value",
                f"{name}: must be given, as a number of at most {_LARGEST_NUMBER:g} in size.",
            )
        return number

    def flag(self, name: str) -> bool:
        """An option that is true or false; false unless given.

        Raises:
            ServiceError: It is something else (`invalid_value`).
        """
        flags = {True: True, False: False, "true": True, "false": False}
        value = self.options.get(name, False)
        if not isinstance(value, bool | str) or value not in flags:
            raise ServiceError("invalid_value", f"{name}: must be true or false.")
        return flags[value]


async def read_upload(request: Request, form: Form, limits: Limits) -> Upload:
    """Reads and checks a request's body; nothing of it touches the disk.

    Raises:
        ServiceError: The body is not such a form or such JSON, exceeds a limit or comes too slowly.
    """
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    body = _limited(request, limits.body_bytes(form.most_photos))
    try:
        with fail_after(limits.upload_seconds):
            if kind == "multipart/form-data":
                fields = await _from_form(request, body, form)
            elif kind == "application/json":
                content = b"".join([chunk async for chunk in body])
                fields = await run_sync(_from_json, content, form)
            else:
                raise ServiceError(
                    "unsupported_media_type",
                    "The body must be multipart/form-data or application/json.",
                )
    except TimeoutError as error:
        raise ServiceError(
            "upload_timeout", f"The body did not arrive within {limits.upload_seconds:g} seconds."
        ) from error
    return await run_sync(_checked, fields, form, limits)


async def _limited(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """Yields a body up to the limit, then refuses it.

    A client that still sends when the answer comes may never read it, so a body of up to twice the
    limit is read to its end, though not kept; likewise one that is refused before its end.
    """
    too_large = ServiceError("body_too_large", f"The body exceeds {limit} bytes.")
    announced = request.headers.get("Content-Length", "")
    if announced.isdecimal() and int(announced) > 2 * limit:
        raise too_large
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > 2 * limit:
            raise too_large
        if size <= limit:
            yield chunk
    if size > limit:
        raise too_large


class _InMemory(MultiPartParser):
    spool_max_size = 0  # never to disk: `_limited` bounds the memory


async def _from_form(
    request: Request, body: AsyncGenerator[bytes, None], form: Form
) -> dict[str, Any]:
    parser = _InMemory(
        request.headers,
        body,
        max_files=form.most_photos,
        max_fields=len(form.options),
        max_part_size=_OPTION_BYTES,
    )
    try:
        items = (await parser.parse()).multi_items()
    # UnicodeError: the client named an encoding that decodes nothing.
    except (MultiPartException, UnicodeError) as error:
        async for _ in body:  # see `_limited`
            pass
        # The parser's messages are all there is to tell them apart.
        message = error.message if isinstance(error, MultiPartException) else ""
        code = "too_many_parts" if message.startswith("Too many") else "malformed_body"
        raise ServiceError(code, message) from error
    fields: dict[str, Any] = {}
    for name, value in items:
        content: Any = value
        if isinstance(value, UploadFile):
            content = value.file.read()  # from memory
            value.file.close()
        if name == form.several:
            fields.setdefault(name, []).append(content)
        elif name in fields:
            raise _repeated(name)
        else:
            fields[name] = content
    return fields


def _from_json(content: bytes, form: Form) -> dict[str, Any]:
    if content.count(b",") > _JSON_COMMAS:
        raise ServiceError("too_many_parts")
    try:
        fields = json.loads(content, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ServiceError("malformed_body", "The body is not JSON.") from error
    if not isinstance(fields, dict):
        raise ServiceError("malformed_body", "The body is not a JSON object.")
    for name in form.photos:
        fields[name] = _from_base64(name, fields.get(name))
    if form.several and isinstance(several := fields.get(form.several), list):
        fields[form.several] = [
            _from_base64(name, photo) for name, photo in _numbered(form.several, several)
        ]
    return fields


def _from_base64(name: str, value: Any) -> Any:
    """Decodes a photo; what is no text is left for `_check_photo`."""
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error) as error:
        raise ServiceError("invalid_value", f"{name}: is not base64.") from error


def _numbered(name: str, values: list[Any]) -> list[tuple[str, Any]]:
    return [(f"{name}[{place}]", value) for place, value in enumerate(values)]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise _repeated(name)
        fields[name] = value
    return fields


def _repeated(name: str) -> ServiceError:
    return ServiceError("repeated_field", f"{_shown(name)}: given twice.")


def _checked(fields: dict[str, Any], form: Form, limits: Limits) -> Upload:
    """Checks names and photos before they take anyone's time."""
    for name in fields:
        if name not in (*form.photos, *form.options, form.several):
            raise ServiceError("unknown_field", f"{_shown(name)}: no such field.")
    photos: list[tuple[str, Any]] = [(name, fields.get(name)) for name in form.photos]
    if form.several:
        photos += _several(form.several, fields.get(form.several))
    pixels = sum(_check_photo(name, content, limits) for name, content in photos)
    if pixels > limits.request_pixels:
        raise ServiceError(
            "image_too_large",
            f"The photos together exceed {limits.request_pixels / 1e6:g} megapixels.",
        )
    options = {name: fields[name] for name in form.options if name in fields}
    return Upload(tuple(photos), options, pixels)


def _several(name: str, values: Any) -> list[tuple[str, Any]]:
    """Names the photos of a field that holds several."""
    if not isinstance(values, list | None):
        raise ServiceError("invalid_value", f"{name}: must be a list of photos.")
    if not values:
        raise ServiceError("missing_photo", f"{name}: missing.")
    if len(values) > MOST_REFERENCES:
        raise ServiceError("too_many_parts", f"{name}: must be {MOST_REFERENCES} photos at most.")
    return _numbered(name, values)


def _check_photo(name: str, content: Any, limits: Limits) -> int:
    """Number of pixels that a photo's header announces."""
    if content is None:
        raise ServiceError("missing_photo", f"{name}: missing.")
    if not isinstance(content, bytes):
        raise ServiceError("invalid_value", f"{name}: must be a file, or base64 in JSON.")
    if len(content) > limits.photo_bytes:
        raise ServiceError(
            "image_too_large", f"{name}: exceeds {limits.photo_megabytes:g} megabytes."
        )
    pixels = count_pixels(content)
    if pixels > limits.photo_pixels:
        raise too_many_pixels(name, limits)
    return pixels


def _shown(name: str) -> str:
    """A client's own name of a field, short and printable."""
    return repr(name[:40])
