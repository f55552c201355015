"""What the service answers, as JSON."""

import base64
from dataclasses import fields
from typing import Annotated, Any, Literal, TypeVar

import cv2
import numpy as np
from pydantic import BaseModel, Field, create_model

from kryptonite.fusion.evidence import REFUSED
from kryptonite.fusion.references import MOST as MOST_REFERENCES
from kryptonite.fusion.verbal import DEGREES
from kryptonite.inference.gate import GateScore
from kryptonite.inference.pipeline import Explanation, PairParts, PhotoFacts, Verification
from kryptonite.inference.verdict import REASONS, REASONS_OF_GATE
from kryptonite.serve.errors import CODES
from kryptonite.serve.uploads import Form

# Types that pydantic reads; a type checker takes no computed ones.
Code: Any = Literal[tuple(REASONS)]
GateCode: Any = Literal[tuple(REASONS_OF_GATE)]
ErrorCode: Any = Literal[tuple(CODES)]
PAIR_PHOTOS = ("photo_a", "photo_b")  # names of a pair's photos in requests
PairPhoto: Any = Literal[PAIR_PHOTOS]
Branch: Any = Literal[tuple(each.name for each in fields(PairParts))]
Degree: Any = Literal[DEGREES]


class Threshold(BaseModel):
    """A score from which pairs are accepted."""

    name: str = Field(examples=["stored", "fmr=0.001"])
    value: float


class Parts(BaseModel):
    """What each branch says of the pair: natural-log likelihood ratios, above 0 for 'accept'.

    `recognition` is for the same person against different people. The others add up to the
    likelihood ratio for two genuine photos against a forgery.
    """

    recognition: float
    detector: float
    similarity: float
    differential_detector: float


class Quality(BaseModel):
    """What is measured of the aligned face."""

    face_pixels: float = Field(description="Side of a square as large as the face's box.")
    sharpness: float = Field(description="Variance of the Laplacian of the grey levels, 0..255.")
    brightness: float = Field(description="Mean grey level, 0..1.")
    contrast: float = Field(description="Standard deviation of the grey levels, 0..0.5.")
    yaw: float = Field(description="Nose's distance from the middle of the eyes, in eye distances.")


class Photo(BaseModel):
    """What was found in a photo; without a face, all but the size is of its central square."""

    width: int = Field(description="Of the upright photo, in pixels.")
    height: int
    status: Literal["found", "found_small", "found_padded", "centre_crop"] = Field(
        description="How the face was found; `centre_crop`: there is none."
    )
    box: tuple[float, float, float, float] = Field(description="x1, y1, x2, y2 in pixels.")
    landmarks: list[tuple[float, float]] = Field(
        description="x, y of left eye, right eye, nose, left and right mouth corner, as seen."
    )
    synthetic_probability: float = Field(ge=0, le=1)
    quality: Quality
    crop: str | None = Field(description="The aligned face as a data URL, if asked for.")


class Decision(BaseModel):
    """What the answers for a pair and for several references have in common."""

    accepted: bool
    code: Code = Field(description="Why.")
    reason: str = Field(description="The same in words.")
    score: float | None = Field(description="Null without a face in both photos.")
    threshold: Threshold
    parts: Parts | None = Field(
        description="Null without a face in both photos, and for fusions without such parts."
    )
    similarity: float = Field(description="Cosine of the embeddings, -1..1.")
    comparison: float = Field(description="The differential detector's log-odds of two genuine.")
    seconds: float = Field(description="Time from the request's headers to this answer.")


class Reasons(BaseModel):
    """Why a pair is accepted or refused, as far as it was measured to be true."""

    photo: PairPhoto | None = Field(
        description="Of a pair refused as a forgery, the photo that looks more generated."
    )
    branch: Branch | None = Field(
        description="Of a refused pair, the name of the part that lowered the score most."
    )
    llr: float | None = Field(
        description="Natural-log likelihood ratio that both photos are genuine and show one person."
    )
    degree: Degree | None = Field(
        description="How strong the support is: for that if `llr` is above 0, else against it."
    )
    support: str | None = Field(description="The same in words.")
    scale: str = Field(description="Whose words these are.")


class VerifyAnswer(Decision):
    """The answer for a pair."""

    photos: tuple[Photo, Photo]
    explanation: Reasons | None = Field(default=None, description="Null unless asked for.")


class ReferencesAnswer(Decision):
    """The answer for a probe and its references.

    The codes are those of a pair: the probe stands for the first photo, the references together for
    the second. A face must be found in the probe and in one reference; `similarity` and
    `comparison` are pooled over the references.
    """

    photos: list[Photo] = Field(description="The probe, then its references as they were sent.")


class GateAnswer(BaseModel):
    """A gate's answer for two photos and a matcher's similarity of them."""

    accepted: bool
    code: GateCode = Field(description="Why.")
    reason: str = Field(description="The same in words.")
    llr: float | None = Field(
        description="Natural-log likelihood ratio that both are genuine photos of one person; null "
        "without a face in both."
    )
    threshold: Threshold
    similarity: float = Field(description="As it was sent.")
    comparison: float = Field(description="The differential detector's log-odds of two genuine.")
    photos: tuple[Photo, Photo]
    seconds: float = Field(description="Time from the request's headers to this answer.")


class ScoreAnswer(BaseModel):
    """The synthetic-image detector's answer for one photo."""

    synthetic_probability: float = Field(ge=0, le=1)
    log_odds: float = Field(description="The same as natural-log odds.")
    photo: Photo


class ErrorAnswer(BaseModel):
    """Why a request was refused."""

    code: ErrorCode
    message: str = Field(description="One sentence.")


class Health(BaseModel):
    """The service is up."""

    status: Literal["ok"] = "ok"


class Weights(BaseModel):
    """Published weights that a part was trained from."""

    part: str
    source: str
    licence: str


class RequestLimits(BaseModel):
    """What a request may hold at most."""

    bytes_per_photo: int
    pixels_per_photo: int
    pixels_per_side: int = Field(description="Width and height of a photo.")
    bytes_per_request: int = Field(description="Of several references, with the form around them.")
    pixels_per_request: int
    requests: int = Field(description="Received or waiting at a time.")
    uploads: int = Field(description="Of one client, received at a time.")
    upload_seconds: float
    answer_seconds: float


class References(BaseModel):
    """What /v1/verify-references takes."""

    most: int = Field(description="References in a request.")
    thresholds: list[str] = Field(description="Names; their values depend on how many they are.")


class Gate(BaseModel):
    """The gate of /v1/gate."""

    fusion: str
    thresholds: list[Threshold] = Field(description="The first is the default.")


class Info(BaseModel):
    """What answers here."""

    run: str
    version: str
    fusion: str
    thresholds: list[Threshold] = Field(description="Choose one by its name; `stored` is usual.")
    references: References | None = Field(
        description="Null if the run is calibrated for one reference alone."
    )
    gate: Gate | None = Field(description="Null if the service was started without one.")
    engines: dict[str, str]
    weights: list[Weights]
    card: str | None = Field(description="The run's model card, Markdown.")
    limits: RequestLimits


class Example(BaseModel):
    """A pair of the demo's generated people, whose truth is known."""

    name: str
    kind: Literal["same", "different", "synthetic"]
    species: str = Field(description="Kind of forgery; empty for genuine pairs.")
    photo_a: str = Field(description="Address of the first photo.")
    photo_b: str


# Bodies as JSON, for the description alone; `uploads` reads them, as it does forms.
_BASE64 = Field(json_schema_extra={"contentEncoding": "base64"})
_FILE = Field(json_schema_extra={"contentMediaType": "application/octet-stream"})
_OPTIONS = {
    "threshold": (
        str,  # a factory leaves the default out of the description
        Field(default_factory=str, description="A name of /v1/info's; the first unless given."),
    ),
    "crops": (bool, Field(False, description="Whether to return the aligned faces.")),
    "explain": (bool, Field(False, description="Whether to return the explanation.")),
    "similarity": (
        float,
        Field(description="The matcher's, higher for one person.", examples=[0.63]),
    ),
}


def _body(name: str, photo: Any, form: Form) -> dict:
    fields: dict[str, Any] = dict.fromkeys(form.photos, (str, photo))
    if form.several:
        listed = Field(min_length=1, max_length=MOST_REFERENCES)
        fields[form.several] = (list[Annotated[str, photo]], listed)
    fields |= {option: _OPTIONS[option] for option in form.options}
    return create_model(name, **fields).model_json_schema()


def request_body(form: Form) -> dict:
    """Describes the body of a request that takes photos, for OpenAPI."""
    content = {
        "multipart/form-data": {"schema": _body("Form", _FILE, form)},
        "application/json": {"schema": _body("Json", _BASE64, form)},
    }
    return {"requestBody": {"required": True, "content": content}}


def photo_of(facts: PhotoFacts, crops: bool) -> Photo:
    """Describes a photo.

    Args:
        facts: What was found.
        crops: Whether to include the aligned face.
    """
    return Photo(
        width=facts.width,
        height=facts.height,
        status=facts.status,  # type: ignore[arg-type]
        box=facts.box,  # type: ignore[arg-type]
        landmarks=list(facts.landmarks),
        synthetic_probability=facts.synthetic_probability,
        quality=Quality(**vars(facts.quality)),
        crop=_png_url(facts.crop) if crops else None,
    )


DecisionT = TypeVar("DecisionT", VerifyAnswer, ReferencesAnswer)


def verify_answer(
    model: type[DecisionT], answer: Verification, crops: bool, seconds: float
) -> DecisionT:
    """Gives the answer for a pair, or for a probe and its references.

    Args:
        model: What to answer with.
        answer: The pipeline's.
        crops: Whether to include the aligned faces.
        seconds: Time that the request has taken.
    """
    photos: Any = [photo_of(photo, crops) for photo in answer.photos]  # the model counts them
    return model(
        accepted=answer.accepted,
        code=answer.code,
        reason=answer.reason,
        score=answer.score if answer.score > REFUSED else None,
        threshold=Threshold(name=answer.threshold_name, value=answer.threshold),
        parts=Parts(**vars(answer.parts)) if answer.parts else None,
        similarity=answer.similarity,
        comparison=answer.comparison,
        photos=photos,
        seconds=seconds,
    )


def explained(answer: VerifyAnswer, explanation: Explanation) -> VerifyAnswer:
    """Adds an explanation to the answer for a pair."""
    reasons = Reasons(
        photo=None if explanation.photo is None else PAIR_PHOTOS[explanation.photo],
        branch=explanation.branch,
        llr=explanation.llr,
        degree=explanation.degree,
        support=explanation.support,
        scale=explanation.scale,
    )
    return answer.model_copy(update={"explanation": reasons})


def gate_answer(answer: GateScore, crops: bool, seconds: float) -> GateAnswer:
    """Gives a gate's answer; see `verify_answer`."""
    first, second = (photo_of(photo, crops) for photo in answer.photos)
    return GateAnswer(
        accepted=answer.accepted,
        code=answer.code,
        reason=answer.reason,
        llr=answer.llr,
        threshold=Threshold(name=answer.threshold_name, value=answer.threshold),
        similarity=answer.similarity,
        comparison=answer.comparison,
        photos=(first, second),
        seconds=seconds,
    )


def _png_url(crop: np.ndarray) -> str:
    _, content = cv2.imencode(".png", crop[:, :, ::-1])
    return f"data:image/png;base64,{base64.b64encode(content.tobytes()).decode()}"
