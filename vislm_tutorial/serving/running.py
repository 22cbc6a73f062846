"""A service in a thread of this process, for notebooks and tests: it ends with its `with` block."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._extra import missing

if TYPE_CHECKING:
    from fastapi import FastAPI

LOOPBACK = "127.0.0.1"


@contextmanager
def running(app: FastAPI, wait: float = 60.0, grace: int = 10) -> Iterator[str]:
    """Serve `app` on a free port of the loopback address, which no other machine reaches.

    Args:
        wait: seconds for the model to be loaded.
        grace: seconds that answers under way may take at the end.

    Yields:
        The address: "http://127.0.0.1:<port>".

    Raises:
        RuntimeError: if the service does not get ready; says why.
        ImportError: without the packages of the extra `serving`.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise missing(error) from error

    worker = app.state.worker
    with socket.create_server((LOOPBACK, 0)) as listener:
        settings = {"log_level": "warning", "timeout_graceful_shutdown": grace}
        server = uvicorn.Server(uvicorn.Config(app, **settings))
        thread = threading.Thread(target=server.run, args=([listener],), name="http", daemon=True)
        thread.start()
        try:
            end = time.monotonic() + wait
            while not (server.started and worker.ready):
                if worker.failure or not thread.is_alive() or time.monotonic() > end:
                    reason = worker.failure or f"it was not ready within {wait:g} s"
                    raise RuntimeError(f"The service did not start: {reason}.")
                time.sleep(0.01)
            yield f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(grace + 10)
