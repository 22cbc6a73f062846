"""One thread that owns the model, and a short queue before it.

A model on one device draws no faster when two threads call it. So requests wait in a queue whose
length is bounded: with s seconds a request, the last of n waits n s, and who would wait longer than
anyone stays is better refused at once (load shedding; see the page "A service").
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .asking import Cancelled, DrawRequest, draw, notes

if TYPE_CHECKING:
    from ..pipeline import VisLMPipeline

_MEMORY = 0.8  # how much of the running mean of the seconds a request is kept by each new one


class QueueFull(RuntimeError):
    """As many requests wait as may; try again after `retry_after` seconds, a whole number."""

    def __init__(self, waiting: int, retry_after: int):
        super().__init__(f"{waiting} requests are waiting already; try again in {retry_after} s.")
        self.retry_after = retry_after


class NotReady(RuntimeError):
    """The model is not loaded yet, could not be loaded, or the service is closing."""


@dataclass(frozen=True)
class Drawn:
    """Pictures (PIL), the seconds that the model took for them, and what to know about them."""

    images: list
    seconds: float
    notes: list[str]


@dataclass(eq=False)
class Job:
    """A request on its way; `future.result()` is a `Drawn`."""

    request: DrawRequest
    future: Future = field(default_factory=Future)
    _abandoned: threading.Event = field(default_factory=threading.Event)

    def abandon(self) -> None:
        """Nobody waits any more: it is passed over in the queue, or stopped after the next step."""
        self._abandoned.set()
        self.future.cancel()

    @property
    def abandoned(self) -> bool:
        """Whether `abandon` was called."""
        return self._abandoned.is_set()


class DrawingWorker:
    """Draws requests in the order in which they came.

    Args:
        load: gives the pipeline; called once, in the worker's thread, by `start`.
        waiting: requests that may wait beside the one that is being drawn.
    """

    def __init__(self, load: Callable[[], VisLMPipeline], waiting: int = 8):
        if waiting < 1:
            raise ValueError(f"waiting is {waiting}; expected 1 or more places in the queue.")
        self._load, self._jobs = load, queue.Queue(maxsize=waiting)
        self._pipe: VisLMPipeline | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drawing", daemon=True)
        self._current: Job | None = None
        self._seconds = 1.0  # running mean of a request
        self.failure: Exception | None = None  # why the model could not be loaded

    def start(self) -> None:
        """Begin to load; returns at once."""
        self._thread.start()

    @property
    def pipe(self) -> VisLMPipeline | None:
        """The pipeline that draws the next request; None before it is loaded."""
        return self._pipe

    @property
    def ready(self) -> bool:
        """Whether a request would be drawn."""
        return self._pipe is not None and not self._closing.is_set() and self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Requests in the queue; the one that is being drawn is none of them."""
        return self._jobs.qsize()

    def submit(self, request: DrawRequest) -> Job:
        """Put a request into the queue.

        Raises:
            QueueFull: if no place is free.
            NotReady: before the model is loaded, and after `close`.
        """
        if not self.ready:
            state = "closing" if self._closing.is_set() else "not loaded"
            raise NotReady(f"The model is {state}.")
        job = Job(request)
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise QueueFull(self.waiting, self.retry_after()) from None
        if self._closing.is_set():  # closed between the two: nobody may be there to take it
            job.abandon()
            raise NotReady("The model is closing.")
        return job

    def retry_after(self) -> int:
        """Whole seconds until all that are in the queue will be drawn, at least 1."""
        return max(1, math.ceil((self.waiting + 1) * self._seconds))

    def swap(self, pipe: VisLMPipeline) -> None:
        """From the next request on, draw with another model. What is being drawn is finished."""
        self._pipe = pipe

    def close(self, grace: float = 10.0) -> bool:
        """Refuse new requests and those in the queue, finish the one under way.

        Args:
            grace: seconds after which that one is stopped too.

        Returns:
            Whether the thread has ended.
        """
        self._closing.set()
        if self._thread.ident is None:
            return True
        self._thread.join(grace)
        if self._thread.is_alive() and (job := self._current):
            job.abandon()
            self._thread.join(1.0)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._pipe = self._load()
        except Exception as error:  # for the log: it may name what a stranger must not know
            logging.getLogger(__name__).exception("the model could not be loaded")
            self.failure = error
            return
        while not self._closing.is_set():
            try:
                job = self._jobs.get(timeout=0.05)
            except queue.Empty:
                continue
            self._current = job
            self._draw(job)
            self._current = None
        self._refuse_all()

    def _draw(self, job: Job) -> None:
        if not job.future.set_running_or_notify_cancel():
            return  # abandoned while it waited
        start = time.perf_counter()
        try:
            pipe = self._pipe  # `swap` may put another one there meanwhile
            images = draw(pipe, job.request, lambda: job.abandoned)
            said = notes(pipe, job.request)  # here: a tokenizer serves one thread at a time
        except Cancelled as stopped:
            job.future.set_exception(stopped)
        except Exception as error:  # the thread must outlive whatever one request does
            job.future.set_exception(error)
        else:
            seconds = time.perf_counter() - start
            self._seconds = _MEMORY * self._seconds + (1 - _MEMORY) * seconds
            job.future.set_result(Drawn(images, seconds, said))

    def _refuse_all(self) -> None:
        while True:
            try:
                job: Any = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(NotReady("The model is closing."))
