"""The service's addresses."""

import asyncio
import hmac
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from anyio import fail_after
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, FastAPI, Request, Response, Security
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.security import APIKeyHeader
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kryptonite.inference.gate import GateScore, MatcherGate
from kryptonite.inference.pipeline import Explanation, PhotoFacts, Pipeline, Verification
from kryptonite.report.explanation import render_explanation
from kryptonite.serve import models
from kryptonite.serve.about import About
from kryptonite.serve.batching import Batcher
from kryptonite.serve.errors import CODES, ServiceError
from kryptonite.serve.limits import Limits
from kryptonite.serve.metrics import Metrics
from kryptonite.serve.uploads import Form, Upload, read_upload
from kryptonite.serve.work import Answer, Job, Worker

PAGE = Path(__file__).parent / "page"
KEY_HEADER = "X-API-Key"
_DECISION = ("threshold", "crops")
PAIR = Form(models.PAIR_PHOTOS, (*_DECISION, "explain"))
SHEET = Form(PAIR.photos, ("threshold",))
REFERENCES = Form(("probe",), _DECISION, several="references")
GATED = Form(PAIR.photos, ("similarity", *_DECISION))
SINGLE = Form(("photo",))
_PHOTO_NAMES = ("first photo", "second photo")  # in the sheet; names of files are not read
_SHEET = "explanation.html"

# The page loads its own files alone, and shows the photos that its user picks.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_COUNTED = ("/v1/verify", "/v1/explain", "/v1/verify-references", "/v1/gate", "/v1/score-image")
_DESCRIPTION = """\
Decides whether two photos are genuine and show the same person. Photos are computed in memory and
forgotten; nothing of them is stored or logged. Every error is answered by a `code` for programs and
a sentence in `message`."""

_log = logging.getLogger(__name__)


def create_app(
    pipeline: Pipeline,
    about: About,
    limits: Limits,
    key: str = "",
    gate: MatcherGate | None = None,
) -> FastAPI:
    """Makes the ASGI application.

    Args:
        pipeline: The trained system.
        about: What the service says of it.
        limits: Bounds on requests.
        key: The API key that clients must send; empty asks for none.
        gate: The gate, if there is one; `about` describes it, too.

    Returns:
        The application. Where its start fails, its `state.failure` is the reason.
    """
    worker = Worker(pipeline, limits, gate)
    metrics = Metrics(lambda: batcher.waiting)
    batcher: Batcher[Job, Answer] = Batcher(
        worker, worker.weigh, limits.requests, metrics.count_batch
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await run_sync(worker.warm_up)
            batcher.start()
        except Exception as error:
            app.state.failure = error  # servers keep no more of it than its text
            raise
        yield
        await run_sync(batcher.stop)

    # Swagger's page would load its scripts from elsewhere.
    app = FastAPI(
        title="Kryptonite",
        version=about.info.version,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.add_middleware(_Outermost, metrics=metrics)
    app.include_router(_public(metrics))
    desk = _Desk(batcher, limits)
    app.include_router(_private(desk, about, key, pipeline.explain_answer))
    app.mount("/static", StaticFiles(directory=PAGE), name="static")
    app.add_exception_handler(ServiceError, _answer_refusal)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    return app


class _Desk:
    """Takes a request's photos in and brings its answer out.

    Args:
        batcher: Computes.
        limits: Bounds on requests.
    """

    def __init__(self, batcher: Batcher[Job, Answer], limits: Limits):
        self._batcher, self._limits = batcher, limits
        self._uploads: Counter[str] = Counter()

    async def handle(
        self, request: Request, form: Form, job_of: Callable[[Upload], Job]
    ) -> tuple[Any, Upload]:
        """Reads an upload and waits for its answer.

        Args:
            request: The request.
            form: What it takes.
            job_of: Checks the options and says what to compute.

        Raises:
            ServiceError: The request is refused.
        """
        with self._batcher.place():
            with self._uploading(request.client.host if request.client else ""):
                upload = await read_upload(request, form, self._limits)
            future = self._batcher.submit(job_of(upload))
            try:
                with fail_after(self._limits.answer_seconds):
                    return await asyncio.wrap_future(future), upload
            except TimeoutError as error:
                raise ServiceError("answer_timeout") from error

    @contextmanager
    def _uploading(self, client: str) -> Iterator[None]:
        """Counts the uploads of a client, lest a single one hold all places by slow ones."""
        if self._uploads[client] >= self._limits.uploads:
            raise ServiceError("too_many_uploads")
        self._uploads[client] += 1
        try:
            yield
        finally:
            self._uploads[client] -= 1
            if not self._uploads[client]:
                del self._uploads[client]


def _private(
    desk: _Desk, about: About, key: str, explain: Callable[[Verification], Explanation]
) -> APIRouter:
    """Addresses that ask for the key, if there is one."""

    def check_key(
        given: Annotated[str | None, Security(APIKeyHeader(name=KEY_HEADER, auto_error=False))],
    ) -> None:
        # Header values are bytes, which the framework shows as Latin-1.
        if key and not hmac.compare_digest((given or "").encode("latin-1"), key.encode()):
            raise ServiceError("unauthorized")

    def pair(upload: Upload) -> Job:
        name = _threshold_of(upload, about.info.thresholds)
        return Job(upload.photos, upload.pixels, name)

    def references(upload: Upload) -> Job:
        if len(upload.photos) == 2:  # one reference
            return pair(upload)
        if about.info.references is None:
            raise ServiceError("references_unsupported")
        offered = about.info.references.thresholds
        thresholds = [each for each in about.info.thresholds if each.name in offered]
        return Job(upload.photos, upload.pixels, _threshold_of(upload, thresholds))

    def gated(upload: Upload) -> Job:
        assert about.info.gate is not None  # checked before the upload
        name = _threshold_of(upload, about.info.gate.thresholds)
        return Job(upload.photos, upload.pixels, name, upload.number("similarity"))

    statuses = sorted({status for status, _ in CODES.values()})
    router = APIRouter(
        prefix="/v1",
        dependencies=[Depends(check_key)],
        responses={status: {"model": models.ErrorAnswer} for status in statuses},
    )

    @router.post("/verify", openapi_extra=models.request_body(PAIR))
    async def verify(request: Request) -> models.VerifyAnswer:
        """Decides whether two photos are genuine and show the same person."""
        began = time.perf_counter()
        answer, upload = await desk.handle(request, PAIR, pair)
        assert isinstance(answer, Verification)
        request.state.code = answer.code
        seconds = time.perf_counter() - began
        told = models.verify_answer(models.VerifyAnswer, answer, upload.flag("crops"), seconds)
        return models.explained(told, explain(answer)) if upload.flag("explain") else told

    @router.post("/explain", openapi_extra=models.request_body(SHEET), response_class=HTMLResponse)
    async def explain_pair(request: Request) -> HTMLResponse:
        """Says why two photos are accepted or refused, as an HTML sheet that opens offline."""
        answer, _ = await desk.handle(request, SHEET, pair)
        assert isinstance(answer, Verification)
        request.state.code = answer.code
        sheet = await run_sync(render_explanation, asdict(explain(answer)), _PHOTO_NAMES)
        return HTMLResponse(
            sheet, headers={"Content-Disposition": f"attachment; filename={_SHEET}"}
        )

    @router.post("/verify-references", openapi_extra=models.request_body(REFERENCES))
    async def verify_references(request: Request) -> models.ReferencesAnswer:
        """Decides whether a photo is genuine and shows the person of several genuine photos."""
        began = time.perf_counter()
        answer, upload = await desk.handle(request, REFERENCES, references)
        assert isinstance(answer, Verification)
        request.state.code = answer.code
        seconds = time.perf_counter() - began
        return models.verify_answer(models.ReferencesAnswer, answer, upload.flag("crops"), seconds)

    @router.post("/gate", openapi_extra=models.request_body(GATED))
    async def gate(request: Request) -> models.GateAnswer:
        """Adds the run's evidence of forgery to another matcher's similarity of two photos."""
        began = time.perf_counter()
        if about.info.gate is None:
            raise ServiceError("no_gate")
        answer, upload = await desk.handle(request, GATED, gated)
        assert isinstance(answer, GateScore)
        request.state.code = answer.code
        return models.gate_answer(answer, upload.flag("crops"), time.perf_counter() - began)

    @router.post("/score-image", openapi_extra=models.request_body(SINGLE))
    async def score_image(request: Request) -> models.ScoreAnswer:
        """Says how likely one photo is generated, by the synthetic-image detector alone."""
        facts, _ = await desk.handle(request, SINGLE, lambda one: Job(one.photos, one.pixels))
        assert isinstance(facts, PhotoFacts)
        return models.ScoreAnswer(
            synthetic_probability=facts.synthetic_probability,
            log_odds=facts.log_odds,
            photo=models.photo_of(facts, crops=False),
        )

    @router.get("/info")
    async def info() -> models.Info:
        """Describes the run: thresholds, engines, weights and their licences, limits."""
        return about.info

    @router.get("/examples")
    async def examples() -> list[models.Example]:
        """Lists pairs of generated people to try; none unless a demo's run is served."""
        return [
            models.Example(
                name=name,
                kind=example.kind,  # type: ignore[arg-type]
                species=example.species,
                photo_a=f"/v1/examples/{name}/a",
                photo_b=f"/v1/examples/{name}/b",
            )
            for name, example in about.examples.items()
        ]

    @router.get("/examples/{name}/{side}", response_class=Response)
    async def example(name: str, side: str) -> Response:
        """Gives the first (`a`) or second (`b`) photo of an example."""
        if name not in about.examples or side not in ("a", "b"):
            raise ServiceError("not_found")
        return Response(about.examples[name].photos["ab".index(side)], media_type="image/jpeg")

    return router


def _threshold_of(upload: Upload, thresholds: list[models.Threshold]) -> str:
    """Checks the options of a decision, and gives the name of its threshold."""
    for name in ("crops", "explain"):
        upload.flag(name)
    names = [threshold.name for threshold in thresholds]
    name = upload.text("threshold", names[0])
    if name not in names:
        raise ServiceError("unknown_threshold", f"No such threshold; there are {', '.join(names)}.")
    return name


def _public(metrics: Metrics) -> APIRouter:
    """Addresses that ask for no key: they tell nothing of the photos."""
    router = APIRouter()

    @router.get("/v1/health")
    async def health() -> models.Health:
        """Answers once the service computes."""
        return models.Health()

    @router.get("/metrics", response_class=Response)
    async def exposition() -> Response:
        """Gives counts and times for Prometheus."""
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    return router


class _Outermost:
    """Adds headers to every answer, counts those on photos, and answers what failed.

    A HEAD request gets the answer of GET without its body, which the framework's routes refuse.

    Args:
        app: The application.
        metrics: Counts.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, state = time.perf_counter(), scope.setdefault("state", {})
        started, head = False, scope["method"] == "HEAD"
        if head:
            scope = {**scope, "method": "GET"}

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                added = [(name.lower().encode(), text.encode()) for name, text in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            elif head:
                message = {**message, "body": b""}
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            if started:
                raise
            _log.exception("%s failed", scope["path"])
            state["code"] = "internal_error"
            response = _refusal(ServiceError("internal_error"))
            await response(scope, receive, send_with_headers)
        if scope["path"] in _COUNTED and scope["method"] == "POST":
            seconds = time.perf_counter() - began
            self._metrics.count_request(scope["path"], state.get("code", "ok"), seconds)


def _refusal(error: ServiceError) -> JSONResponse:
    body = {"code": error.code, "message": error.message}
    return JSONResponse(body, error.status, dict(error.headers))


async def _answer_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    request.state.code = error.code
    return _refusal(error)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    """Answers what the framework refuses by itself."""
    assert isinstance(error, HTTPException)
    code = "method_not_allowed" if error.status_code == 405 else "not_found"
    response = _refusal(ServiceError(code))
    response.headers.update(error.headers or {})
    return response


async def _answer_nobody(request: Request, error: Exception) -> Response:
    """The client has gone before its upload was complete."""
    request.state.code = "disconnected"
    return Response(status_code=400)
