"""What surrounds every request: errors in one form, numbers, health, a limit for bodies."""

import asyncio
from collections.abc import Callable

from ._extra import missing
from .messages import Fault, Health, Refusal, refusals
from .worker import DrawingWorker, Drawn

try:
    from fastapi import FastAPI, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
    from starlette.exceptions import HTTPException
except ImportError as error:
    raise missing(error) from error

SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)  # upper ends of the histograms


class Problem(Exception):
    """Becomes an answer with `status`."""

    def __init__(self, status: int, code: str, message: str, headers: dict | None = None):
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


class Metrics:
    """The service's numbers, in a registry of their own: several services may live in a process."""

    def __init__(self, worker: DrawingWorker):
        self.registry = CollectorRegistry()
        own = {"registry": self.registry}
        self.answers = Counter("vislm_answers", "Answers: drawn, or why not", ["outcome"], **own)
        self.images = Counter("vislm_images", "Pictures drawn", **own)
        self.latency = Histogram(
            "vislm_answer_seconds", "Arrival to answer, if drawn", buckets=SECONDS, **own
        )
        self.drawing = Histogram(
            "vislm_drawing_seconds", "What the model took", buckets=SECONDS, **own
        )
        waiting = Gauge("vislm_waiting", "Requests in the queue", **own)
        waiting.set_function(lambda: worker.waiting)

    def drawn(self, answer: Drawn, seconds: float) -> None:
        """Count one answer that was drawn, `seconds` after its request arrived."""
        self.answers.labels("drawn").inc()
        self.images.inc(len(answer.images))
        self.latency.observe(seconds)
        self.drawing.observe(answer.seconds)


def answered(metrics: Metrics) -> Callable[[Problem, list | None], JSONResponse]:
    """What turns a problem into the answer that all errors share, and counts it."""

    def answer(problem: Problem, details: list | None = None) -> JSONResponse:
        metrics.answers.labels(problem.code).inc()
        fault = Fault(code=problem.code, message=problem.message, details=details or [])
        body = Refusal(error=fault).model_dump()
        return JSONResponse(body, problem.status, problem.headers)

    return answer


def add_error_handlers(app: FastAPI, metrics: Metrics) -> None:
    answer = answered(metrics)

    @app.exception_handler(Problem)
    async def known(_request: Request, problem: Problem):
        return answer(problem)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError):
        # The input is not sent back: it may be huge, or a script meant for someone's browser.
        details = [
            {"where": ".".join(map(str, e["loc"])), "problem": e["msg"]}
            for e in error.errors()[:10]
        ]
        first = f"{details[0]['where']}: {details[0]['problem']}" if details else "not valid"
        return answer(Problem(422, "invalid_request", first), details)

    @app.exception_handler(HTTPException)
    async def http(_request: Request, error: HTTPException):
        code = {400: "not_json", 404: "not_found", 405: "method_not_allowed"}.get(
            error.status_code, "http_error"
        )
        return answer(Problem(error.status_code, code, str(error.detail), error.headers))

    @app.exception_handler(Exception)
    async def unknown(_request: Request, error: Exception):
        return answer(Problem(500, "internal", "Something failed here; the reason was logged."))


def add_health(app: FastAPI, worker: DrawingWorker, metrics: Metrics) -> None:
    @app.get("/health/live", response_model=Health)
    async def live():
        return Health(status="alive")

    @app.get("/health/ready", response_model=Health, responses=refusals(503))
    async def ready():
        if not worker.ready:
            # Why it failed stands in the server's log: it may name folders of this machine.
            raise Problem(503, "not_ready", "The model is not loaded.")
        return Health(status="ready")

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def numbers():
        # The format's own version parameter would be no news to a reader of the OpenAPI file.
        return Response(generate_latest(metrics.registry), media_type="text/plain")


class BodyLimit:
    """ASGI middleware: reads a request's body up to two limits.

    A body without a Content-Length (or with a wrong one) is counted as it comes.

    Args:
        most: bytes; beyond them the answer is 413.
        seconds: until all of it is there; then 408, so that nobody holds a connection by silence.
    """

    def __init__(self, app, most: int, seconds: float, refuse: Callable):
        self.app, self.most, self.seconds, self.refuse = app, most, seconds, refuse

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            body = await asyncio.wait_for(self._body(receive), self.seconds)
        except asyncio.TimeoutError:
            said = f"The body was not there within {self.seconds:g} s."
            refusal = self.refuse(Problem(408, "too_slow", said, {"Connection": "close"}))
            return await refusal(scope, receive, send)
        except Problem as problem:
            return await self.refuse(problem)(scope, receive, send)
        if body is None:
            return None
        whole = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay():
            return whole.pop() if whole else await receive()

        return await self.app(scope, replay, send)

    async def _body(self, receive) -> bytes | None:
        """The whole body; None if its sender went away."""
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.most:
                said = f"The body has more than {self.most:,} bytes."
                raise Problem(413, "too_large", said, {"Connection": "close"})
        return body
