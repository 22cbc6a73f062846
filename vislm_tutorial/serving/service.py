"""The HTTP service: one worker that draws, a bounded queue, limits, health, metrics.

    POST /draw         pictures of captions, as JSON or as one PNG
    POST /feedback     whether a picture was right (only where captions are collected)
    GET  /health/live  the process answers
    GET  /health/ready the model is loaded and draws
    GET  /metrics      counters and histograms in Prometheus' text format
    GET  /openapi.json what may be asked, for programs and people

Every error is `{"error": {"code", "message", "details"}}`. There is no encryption and no log-in:
those belong into the proxy before it.
"""

import asyncio
import base64
import io
import json
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ._extra import missing
from .asking import Cancelled, DrawRequest, Limits, check
from .collect import CaptionLog, Typed
from .messages import Answer, Feedback, Picture, draw_body, refusals
from .plumbing import BodyLimit, Metrics, Problem, add_error_handlers, add_health, answered
from .worker import DrawingWorker, Drawn, NotReady, QueueFull

try:
    from fastapi import FastAPI, Request, Response
    from fastapi.responses import JSONResponse
except ImportError as error:
    raise missing(error) from error

REMEMBERED = 10_000  # newest pictures whose feedback is still taken
HEADERS = {  # with "format": "png", where no JSON tells it
    "X-Vislm-Id": "Names this answer in /feedback.",
    "X-Vislm-Notes": "What to know about the pictures: a list of strings as JSON, in ASCII.",
}


@dataclass(frozen=True)
class ServiceConfig:
    """How much the service takes on."""

    waiting: int = 8  # requests that may wait; one more is answered 429
    timeout: float = 30.0  # seconds from a request's arrival; then 504, and its work is stopped
    body_bytes: int = 16_384  # larger requests are answered 413 before anything reads them
    body_seconds: float = 10.0  # a body that takes longer to arrive is answered 408
    grace: float = 10.0  # seconds that the drawing under way may take once the service closes
    limits: Limits = field(default_factory=Limits)


def build_service(
    load: Callable,
    config: ServiceConfig | None = None,
    log: CaptionLog | None = None,
) -> FastAPI:
    """The service around a pipeline.

    Args:
        load: gives the `VisLMPipeline`; called when the service starts, in the worker's thread.
        config: how much it takes on.
        log: where captions are kept whose senders consent; None: none is kept.

    Returns:
        An ASGI application; `.state.worker` is its `DrawingWorker`, `.state.metrics` its numbers.

    Raises:
        ImportError: without the packages of the extra `serving`.
    """
    config = config or ServiceConfig()
    worker = DrawingWorker(load, config.waiting)
    metrics = Metrics(worker)

    @asynccontextmanager
    async def lifespan(_app: FastAPI):
        worker.start()
        yield
        await asyncio.to_thread(worker.close, config.grace)

    # FastAPI's own pages about a service load scripts from elsewhere, so there are none.
    own = {"redirect_slashes": False, "docs_url": None, "redoc_url": None}
    app = FastAPI(title="vislm", lifespan=lifespan, **own)
    app.state.worker, app.state.metrics = worker, metrics
    limits = {"most": config.body_bytes, "seconds": config.body_seconds}
    app.add_middleware(BodyLimit, **limits, refuse=answered(metrics))
    add_error_handlers(app, metrics)
    add_health(app, worker, metrics)
    recent: OrderedDict[str, None] = OrderedDict()
    body = draw_body(config.limits)

    @app.post(
        "/draw",
        response_model=Answer,
        responses={
            200: {"content": {"image/png": {}}, "headers": _described(HEADERS)},
            **refusals(400, 408, 413, 422, 429, 500, 503, 504),
        },
    )
    async def draw(asked: body, http: Request):
        arrived = time.perf_counter()
        values = asked.model_dump(exclude={"format", "consent", "captions"})
        request = DrawRequest(tuple(asked.captions), **values, limits=config.limits)
        drawn = await _drawn(worker, request, config.timeout, http)
        identity = uuid.uuid4().hex
        if log is not None and asked.consent and await _kept(log, identity, request):
            recent[identity] = None
            while len(recent) > REMEMBERED:
                recent.popitem(last=False)
        answer = await asyncio.to_thread(_answer, identity, request, drawn, asked.format)
        metrics.drawn(drawn, time.perf_counter() - arrived)
        return answer

    if log is not None:

        @app.post("/feedback", status_code=204, responses=refusals(400, 404, 408, 413, 422, 500))
        async def feedback(said: Feedback) -> None:
            if said.id not in recent:
                raise Problem(404, "unknown_id", "No kept answer has this id.")
            await asyncio.to_thread(log.feedback, said.id, said.right)

    return app


async def _drawn(
    worker: DrawingWorker, request: DrawRequest, timeout: float, http: Request
) -> Drawn:
    """The request's pictures, or the problem that there was."""
    try:
        if worker.pipe is not None:
            check(worker.pipe, request)
        job = worker.submit(request)
    except (TypeError, ValueError) as refused:  # this family of generators has no such setting
        raise Problem(422, "invalid_request", str(refused)) from None
    except QueueFull as full:
        after = {"Retry-After": str(full.retry_after)}
        raise Problem(429, "queue_full", str(full), after) from None
    except NotReady as why:
        raise Problem(503, "not_ready", str(why)) from None
    drawn, gone = asyncio.wrap_future(job.future), asyncio.ensure_future(_gone(http))
    try:
        first = {"return_when": asyncio.FIRST_COMPLETED}
        done, _ = await asyncio.wait((drawn, gone), timeout=timeout, **first)
    finally:  # whatever ended the wait: a timeout, or a client that went away
        gone.cancel()
        drawn.cancel()
        job.abandon()
    if gone in done and drawn not in done:  # nobody reads this answer; it is counted
        raise Problem(499, "client_gone", "The client went away.")
    if drawn not in done:
        message = f"Not drawn within {timeout:g} s. Ask for fewer pictures or steps, or later."
        raise Problem(504, "timeout", message)
    try:
        return drawn.result()
    except (NotReady, Cancelled) as why:  # the service closes
        raise Problem(503, "not_ready", str(why) or "The service is closing.") from None
    except Exception:  # stands in the server's own log; a stranger learns only that it happened
        logging.getLogger(__name__).exception("drawing failed")
        raise Problem(500, "internal", "Drawing failed; the reason was logged.") from None


async def _gone(http: Request) -> None:
    """Ends when the client goes away: the server cancels nothing by itself."""
    while (await http.receive())["type"] != "http.disconnect":
        pass


async def _kept(log: CaptionLog, identity: str, request: DrawRequest) -> bool:
    """Whether a caption was kept. A full disk must not cost its sender the picture."""
    typed = [Typed(caption, identity, request.seed) for caption in request.captions]
    try:
        return await asyncio.to_thread(log.append, typed) > 0
    except OSError:
        logging.getLogger(__name__).exception("captions were not kept")
        return False


def _described(headers: dict[str, str]) -> dict[str, dict]:
    """OpenAPI's description of headers."""
    return {n: {"description": d, "schema": {"type": "string"}} for n, d in headers.items()}


def _answer(identity: str, request: DrawRequest, drawn: Drawn, kind: str) -> Response:
    """Pictures as bytes, in a thread of its own: compression would hold up all other answers."""
    if kind == "png":
        from ..data.images import grid

        # A note quotes its caption, which must not become a header of its own: JSON in ASCII.
        told = dict(zip(HEADERS, (identity, json.dumps(drawn.notes)), strict=True))
        return Response(_png(grid(drawn.images)), media_type="image/png", headers=told)
    each = request.images_per_caption
    pictures = [
        Picture(
            caption=request.captions[i // each],
            seed=seed,
            png=base64.b64encode(_png(picture)).decode(),
        )
        for i, (seed, picture) in enumerate(zip(request.seeds, drawn.images, strict=True))
    ]
    answer = Answer(id=identity, images=pictures, seconds=drawn.seconds, notes=drawn.notes)
    return JSONResponse(answer.model_dump())


def _png(picture) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()
