"""What the service refuses to take, and with which code."""

import asyncio
import base64
import io
import json
import struct
import zlib

import httpx
import numpy as np
import pytest
from PIL import Image

from kryptonite.core.errors import ConfigError
from kryptonite.serve.errors import CODES
from kryptonite.serve.limits import Limits
from tests.serve.conftest import encoded

LIMITS = Limits(photo_megabytes=0.1, megapixels=0.1)
BOUNDARY = {"Content-Type": "multipart/form-data; boundary=b"}
GREY = encoded(np.full((64, 64, 3), 128, np.uint8))


def part(name, content, filename=True):
    shown = f'name="{name}"' + ('; filename="x"' if filename else "")
    return f"--b\r\nContent-Disposition: form-data; {shown}\r\n\r\n".encode() + content + b"\r\n"


def chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def bomb(width, height=None):
    """A PNG of few bytes that announces width × height pixels, or a square."""
    header = struct.pack(">IIBBBBB", width, height or width, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)


def lying_icon():
    """An icon whose directory says 16 × 16 and whose image has 512 × 512 pixels."""
    file = io.BytesIO()
    Image.new("RGB", (256, 256)).save(file, "ICO", sizes=[(256, 256)])
    inner = encoded(np.zeros((512, 512, 3), np.uint8))
    return (
        struct.pack("<HHH", 0, 1, 1)
        + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
        + inner
    )


def b64(content):
    return base64.b64encode(content).decode()


def raw(content, kind="application/json"):
    """A body of any bytes."""
    return {"content": content, "headers": {"Content-Type": kind}}


def with_(**files):
    """A form of two photos, some of them replaced."""
    return {"files": {**FILES, **files}}


MULTIPART = BOUNDARY["Content-Type"]
CUT_SHORT = part("photo_a", GREY) + part("photo_b", GREY)[:-20]
PAIR = {"photo_a": b64(GREY), "photo_b": b64(GREY)}
FILES = {"photo_a": GREY, "photo_b": GREY}
TEXT = b"This is a text, though it is called a photo."


@pytest.mark.parametrize(
    ("request_", "code", "says"),
    [
        ({"content": b"x" * 10}, "unsupported_media_type", "multipart/form-data"),
        ({"data": PAIR}, "unsupported_media_type", "application/json"),
        (raw(b"{"), "malformed_body", ""),
        (raw(b"[" * 90_000), "malformed_body", ""),
        (raw(b"\xff"), "malformed_body", ""),
        (raw(CUT_SHORT, MULTIPART + "; charset=undefined"), "malformed_body", ""),
        ({"json": [PAIR]}, "malformed_body", "object"),
        (raw(b"--c\r\nbroken", MULTIPART), "malformed_body", ""),
        (raw(CUT_SHORT, "multipart/form-data"), "malformed_body", "boundary"),
        (raw(b"--b\r\nX: y\r\n\r\nz\r\n--b--", MULTIPART), "malformed_body", ""),
        # It ends within the second photo.
        (raw(CUT_SHORT, MULTIPART), "missing_photo", "photo_b"),
        ({"files": {"photo_a": GREY}}, "missing_photo", "photo_b"),
        ({"json": {"photo_b": b64(GREY)}}, "missing_photo", "photo_a"),
        ({"json": {}}, "missing_photo", "photo_a"),
        ({"json": {**PAIR, "photo_c": ""}}, "unknown_field", "'photo_c'"),
        ({"files": FILES, "data": {"treshold": "stored"}}, "unknown_field", "'treshold'"),
        ({"files": [*FILES.items(), ("photo_b", GREY)]}, "too_many_parts", "files"),
        ({"files": FILES, "data": dict.fromkeys("abcd", "1")}, "too_many_parts", "fields"),
        ({"files": [("photo_a", GREY), ("photo_a", GREY)]}, "repeated_field", "'photo_a'"),
        ({"files": FILES, "data": {"threshold": ["a", "b"]}}, "repeated_field", "'threshold'"),
        ({"files": {"photo_a": GREY}, "data": {"photo_b": "text"}}, "invalid_value", "photo_b"),
        ({"json": {**PAIR, "photo_a": 7}}, "invalid_value", "photo_a"),
        ({"json": {**PAIR, "photo_a": "no base 64!"}}, "invalid_value", "photo_a"),
        ({"json": {**PAIR, "photo_a": "фото"}}, "invalid_value", "photo_a"),
        ({"json": {**PAIR, "crops": 1}}, "invalid_value", "crops"),
        ({"json": {**PAIR, "crops": "yes"}}, "invalid_value", "crops"),
        ({"json": {**PAIR, "crops": []}}, "invalid_value", "crops"),
        ({"json": {**PAIR, "explain": "maybe"}}, "invalid_value", "explain"),
        ({"json": {**PAIR, "threshold": 0.5}}, "invalid_value", "threshold"),
        ({"json": {**PAIR, "crops": [0] * 1000}}, "too_many_parts", "values"),
        (raw(b'{"crops": true, "crops": false}'), "repeated_field", "'crops'"),
        (with_(threshold=b"stored"), "too_many_parts", ""),
        ({"json": {**PAIR, "threshold": "fmr=0.5"}}, "unknown_threshold", "stored, fmr=0.1"),
        ({"files": FILES, "data": {"threshold": "x" * 2000}}, "malformed_body", "size of 1KB"),
        (with_(photo_b=b""), "unreadable_image", "empty"),
        (with_(photo_b=TEXT), "unreadable_image", "text file"),
        ({"json": {**PAIR, "photo_b": b64(TEXT)}}, "unreadable_image", "photo_b"),
        (with_(photo_b=b"\0\0\0\x18ftypheic" + bytes(99)), "unreadable_image", "HEIC"),
        (with_(photo_a=GREY[:-30]), "unreadable_image", "photo_a"),
        (with_(photo_a=b"<svg xmlns='x'/>"), "unreadable_image", "SVG"),
        (with_(photo_a=bomb(400)), "image_too_large", "0.1 megapixels"),
        (with_(photo_a=bomb(60_000)), "image_too_large", "megapixels"),
        (with_(photo_b=bomb(100_001, 1)), "image_too_long",
         "photo_b: 100001 × 1 pixels exceed the limit of 100000 pixels a side"),
        ({"json": {**PAIR, "photo_a": b64(bomb(2**30))}}, "image_too_large", "photo_a"),
        (with_(photo_a=lying_icon()), "image_too_large", "photo_a"),
        (with_(photo_b=GREY + bytes(100_000)), "image_too_large", "0.1 megabytes"),
        (with_(photo_b=bytes(500_000)), "body_too_large", "bytes"),
        (with_(photo_b=bytes(5_000_000)), "body_too_large", "bytes"),
        ({"json": {**PAIR, "photo_b": "A" * 500_000}}, "body_too_large", "bytes"),
    ],
)  # fmt: skip
def test_verify_refuses_with_a_code_and_a_sentence(make_client, request_, code, says):
    answer = make_client(limits=LIMITS).post("/v1/verify", **request_)
    assert (answer.json()["code"], answer.status_code) == (code, CODES[code][0]), answer.text
    assert says in answer.json()["message"] and set(answer.json()) == {"code", "message"}


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"files": {"photo_a": GREY}}, "unknown_field"),
        ({"files": {"photo": GREY}, "data": {"crops": "true"}}, "too_many_parts"),
        ({"json": {"photo": b64(GREY), "threshold": "stored"}}, "unknown_field"),
        ({"json": {}}, "missing_photo"),
        ({"files": {"photo": TEXT}}, "unreadable_image"),
    ],
)
def test_score_image_refuses_with_a_code(make_client, request_, code):
    answer = make_client(limits=LIMITS).post("/v1/score-image", **request_)
    assert (answer.json()["code"], answer.status_code) == (code, CODES[code][0])


REFERENCED = {"probe": b64(GREY), "references": [b64(GREY)] * 2}


def referenced(*references, **data):
    """A form of a probe and references."""
    files = [("probe", GREY), *(("references", each) for each in references)]
    return {"files": files, "data": data}


@pytest.mark.parametrize(
    ("request_", "code", "says"),
    [
        (referenced(), "missing_photo", "references"),
        ({"files": [("references", GREY)]}, "missing_photo", "probe"),
        ({"json": {**REFERENCED, "references": []}}, "missing_photo", "references"),
        ({"json": {**REFERENCED, "references": b64(GREY)}}, "invalid_value", "list of photos"),
        ({"json": {**REFERENCED, "references": {"0": ""}}}, "invalid_value", "list of photos"),
        ({"json": {**REFERENCED, "references": [b64(GREY), 7]}}, "invalid_value", "references[1]"),
        ({"json": {**REFERENCED, "references": [None]}}, "missing_photo", "references[0]"),
        ({"json": {**REFERENCED, "references": ["no base 64!"]}}, "invalid_value", "references[0]"),
        ({"json": {**REFERENCED, "": []}}, "unknown_field", "''"),
        ({"json": {**REFERENCED, "photo_a": ""}}, "unknown_field", "'photo_a'"),
        ({**referenced(), "data": {"references": "x"}}, "invalid_value", "references[0]"),
        (referenced(*[GREY] * 11), "too_many_parts", "files"),
        ({"json": {**REFERENCED, "references": [b64(GREY)] * 11}}, "too_many_parts", "10 photos"),
        (referenced(GREY, TEXT), "unreadable_image", "references[1]"),
        (referenced(GREY, GREY + bytes(100_000)), "image_too_large", "references[1]"),
        (referenced(GREY, bomb(400)), "image_too_large", "references[1]"),
        (referenced(*[bomb(300)] * 4), "unreadable_image", "references[0]"),
        (referenced(*[bomb(300)] * 5), "image_too_large", "together exceed 0.4 megapixels"),
        (referenced(*[bytes(99_000)] * 8), "body_too_large", "bytes"),
        # Five large photos fit a body as they are, but not as base64.
        (referenced(*[bytes(99_000)] * 5), "unreadable_image", "references[0]"),
        ({"json": {"probe": b64(GREY), "references": [b64(bytes(99_000))] * 5}},
         "body_too_large", "bytes"),
    ],
)  # fmt: skip
def test_verify_references_refuses_with_a_code_and_a_sentence(make_client, request_, code, says):
    answer = make_client(limits=LIMITS).post("/v1/verify-references", **request_)
    assert (answer.json()["code"], answer.status_code) == (code, CODES[code][0]), answer.text
    assert says in answer.json()["message"]


@pytest.mark.parametrize(
    "similarity", [None, "", "high", "nan", "inf", "1e999", -1e308, True, [0.4], {}]
)
def test_gate_refuses_a_similarity_that_is_no_sound_number(make_client, served_gate, similarity):
    client = make_client(gate=served_gate)
    answer = client.post("/v1/gate", json={**PAIR, "similarity": similarity})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_value")
    assert (
        answer.json()["message"]
        == "similarity: must be given, as a number of at most 1e+09 in size."
    )


def upload(app, body, headers):
    """Sends a body chunk by chunk to an application that is not started: nothing is computed."""

    async def send():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.post("/v1/verify", content=body(), headers=headers)

    return asyncio.run(send())


@pytest.mark.parametrize("start", [part("photo_a", b"")[:-2], b'{"photo_a": "'])
def test_verify_stops_reading_when_a_body_is_endless(make_app, start):
    sent = 0

    async def endless():
        nonlocal sent
        yield start
        while True:
            sent += 50_000
            yield b"A" * 50_000

    headers = BOUNDARY if start[:2] == b"--" else {"Content-Type": "application/json"}
    answer = upload(make_app(limits=LIMITS), endless, headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert sent <= 2 * LIMITS.body_bytes(2) + 100_000
    assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize(
    ("start", "headers", "code"),
    [
        (b"", {"Content-Type": "application/json"}, "body_too_large"),
        (3 * part("photo_a", GREY), BOUNDARY, "too_many_parts"),
        (b"no boundary", BOUNDARY, "malformed_body"),
    ],
)
def test_verify_reads_a_body_to_its_end_when_it_is_refused(make_app, start, headers, code):
    """Its client gets to read the answer."""
    ended = False

    async def body():
        nonlocal ended
        yield start
        for _ in range(7 if code == "body_too_large" else 2):
            yield b" " * 70_000
        ended = True

    answer = upload(make_app(limits=LIMITS), body, headers)
    assert answer.json()["code"] == code and ended


def test_verify_gives_up_when_a_body_does_not_arrive(make_app):
    async def slow():
        yield b"{"
        await asyncio.sleep(60)
        yield b"}"

    app = make_app(limits=Limits(upload_seconds=0.05))
    answer = upload(app, slow, {"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (408, "upload_timeout")
    assert "0.05 seconds" in answer.json()["message"]


def test_verify_refuses_a_client_that_uploads_too_much_at_a_time(make_app):
    """Others are served, and so is the client once it has sent what it began."""
    app = make_app(limits=Limits(uploads=2))

    async def send():
        begun, going = asyncio.Semaphore(0), asyncio.Event()

        async def slow():
            yield b"{"
            begun.release()  # the service asks for more
            await going.wait()
            yield b"}"

        def client(host):
            transport = httpx.ASGITransport(app=app, client=(host, 1))
            return httpx.AsyncClient(transport=transport, base_url="http://service")

        async def post(sender, body):
            headers = {"Content-Type": "application/json"}
            return await sender.post("/v1/verify", content=body, headers=headers)

        async with client("10.0.0.1") as one, client("10.0.0.2") as other:
            sent = [asyncio.create_task(post(one, slow())) for _ in range(2)]
            for _ in sent:
                await begun.acquire()
            refused, served = await post(one, b"{}"), await post(other, b"{}")
            going.set()
            return refused, [served, *await asyncio.gather(*sent), await post(one, b"{}")]

    refused, others = asyncio.run(send())
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_uploads")
    assert refused.headers["Retry-After"] == "1"
    assert [answer.json()["code"] for answer in others] == ["missing_photo"] * 4


def test_verify_announced_too_large_is_refused_unread(make_app):
    async def unread():
        raise AssertionError
        yield b""

    headers = {"Content-Type": "application/json", "Content-Length": str(10**12)}
    assert upload(make_app(), unread, headers).json()["code"] == "body_too_large"


@pytest.mark.parametrize("name", list(vars(Limits())))
def test_limits_refuse_what_is_not_above_zero_and_finite(name):
    for value in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=name):
            Limits(**{name: value})


def test_limits_leave_room_for_both_photos_in_base64():
    limits = Limits(photo_megabytes=0.05)
    photo = b64(bytes(limits.photo_bytes))
    body = json.dumps({"photo_a": photo, "photo_b": photo, "threshold": "stored", "crops": True})
    assert len(body) < limits.body_bytes(2)
