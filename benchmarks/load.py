"""How the HTTP service bears load: `python benchmarks/load.py`, five minutes on an idle machine.

A service in a child process on the loopback address, asked for single pictures (12 steps) at times
that a Poisson process chooses, at rates below and above what it can draw; once with a short queue
and once with a long one. Prints throughput, latency and refusals for each rate.
`-o book/results/load.json` stores what the page "A service" plots; rows that are stored are kept.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shlex
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from vislm_tutorial._files import replaced_when_complete
from vislm_tutorial.training.runlog import describe_machine

QUEUES = {8: (0.3, 0.6, 0.9, 1.2, 2.0), 64: (0.6, 0.9, 1.2, 2.0)}  # waiting: rates / capacity
STEPS = 12
TIMEOUT = 5.0  # of the service, in seconds
SEED = 0


@contextmanager
def service(waiting: int) -> Iterator[str]:
    """The address of a service in a child process that ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--waiting", str(waiting), "--timeout", str(TIMEOUT)]
    command = [sys.executable, "-m", "vislm_tutorial", "serve", *options]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(1200):
            if child.poll() is not None:
                raise RuntimeError(f"the service ended with code {child.returncode}")
            try:
                if httpx.get(url + "/health/ready").status_code == 200:
                    break
            except httpx.TransportError:
                pass  # not listening yet
            time.sleep(0.1)
        else:
            raise RuntimeError("the service did not get ready within two minutes")
        yield url
    finally:
        child.terminate()
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()


async def ask(client: httpx.AsyncClient, seed: int) -> tuple[int, float]:
    """Status and seconds of one request."""
    start = time.perf_counter()
    body = {"captions": ["a red circle above a blue square"], "steps": STEPS, "seed": seed}
    response = await client.post("/draw", json=body)
    return response.status_code, time.perf_counter() - start


def client_of(url: str) -> httpx.AsyncClient:
    """A client that never waits for a connection of its own."""
    return httpx.AsyncClient(base_url=url, timeout=120, limits=httpx.Limits(max_connections=None))


async def capacity(url: str, n: int) -> float:
    """Pictures a second of n, when the model never waits: two are asked for at any time."""
    async with client_of(url) as client:
        await ask(client, 0)  # the first one pays for what is made on first use
        start = time.perf_counter()
        for i in range(0, n, 2):
            await asyncio.gather(ask(client, i), ask(client, i + 1))
        return n / (time.perf_counter() - start)


async def at_rate(url: str, rate: float, seconds: float) -> list[tuple[int, float]]:
    """What became of requests that come at `rate` a second, whatever became of those before."""
    rng, waiting, at = random.Random(SEED), [], 0.0
    async with client_of(url) as client:
        start = time.perf_counter()
        while (at := at + rng.expovariate(rate)) < seconds:
            await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
            waiting.append(asyncio.create_task(ask(client, len(waiting))))
        return list(await asyncio.gather(*waiting))


def measured(url: str, waiting: int, share: float, full: float, seconds: float) -> dict:
    """One row of the table."""
    start = time.perf_counter()
    answers = asyncio.run(at_rate(url, share * full, seconds))
    lasted = time.perf_counter() - start
    statuses = Counter(status for status, _ in answers)
    drawn = sorted(latency for status, latency in answers if status == 200)
    several = drawn if len(drawn) > 1 else 2 * drawn
    cuts = statistics.quantiles(several, n=20, method="inclusive") if drawn else None
    return {
        "waiting": waiting,
        "share_of_capacity": share,
        "capacity": round(full, 3),
        "rate": round(share * full, 3),
        "requests": len(answers),
        "drawn": statuses[200],
        "refused": statuses[429],
        "timed_out": statuses[504],
        "other": len(answers) - statuses[200] - statuses[429] - statuses[504],
        "drawn_per_second": round(len(drawn) / lasted, 3),
        "p50": round(cuts[9], 3) if cuts else None,
        "p95": round(cuts[18], 3) if cuts else None,
        "mean": round(statistics.fmean(drawn), 3) if drawn else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=22.0, help="of arrivals a row (22)")
    parser.add_argument("--calls", type=int, default=40, help="that measure the capacity (40)")
    parser.add_argument("-o", "--output", type=Path, help="also write this JSON file")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the client needs a core of its own
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    rows = stored_rows(options.output, options.seconds)
    stored = {(row["waiting"], row["share_of_capacity"]) for row in rows}
    titles = ("waiting", "rate", "asked", "drawn", "refused", "late", "drawn/s", "p50 s", "p95 s")
    print(" ".join(f"{title:>8}" for title in titles))
    for row in rows:
        show(row)
    for waiting, shares in QUEUES.items():
        left = [share for share in shares if (waiting, share) not in stored]
        if not left:
            continue
        with service(waiting) as url:
            full = asyncio.run(capacity(url, options.calls))
            for share in left:
                rows.append(measured(url, waiting, share, full, options.seconds))
                show(rows[-1])
                if options.output:
                    store(rows, options.output, options.seconds)


def stored_rows(path: Path | None, seconds: float) -> list[dict]:
    """The rows that a run with the same settings has stored."""
    if path is None or not path.exists():
        return []
    before = json.loads(path.read_text(encoding="utf-8"))
    now = {"steps": STEPS, "timeout": TIMEOUT, "seconds": seconds}
    return before["rows"] if now == {name: before.get(name) for name in now} else []


def show(row: dict) -> None:
    """Print a row."""
    names = ("waiting", "rate", "requests", "drawn", "refused", "timed_out")
    names += ("drawn_per_second", "p50", "p95")
    values = ("-" if row[name] is None else f"{row[name]:.3g}" for name in names)
    print(" ".join(f"{value:>8}" for value in values), flush=True)


def store(rows: list[dict], path: Path, seconds: float) -> None:
    """Write all rows."""
    command = shlex.join(["python", "benchmarks/load.py", *sys.argv[1:]])
    threads = int(os.environ["OMP_NUM_THREADS"])
    machine = describe_machine() | {"threads_of_the_service": threads}
    settings = {"steps": STEPS, "timeout": TIMEOUT, "seconds": seconds}
    text = json.dumps({"command": command, "machine": machine, **settings, "rows": rows}, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_when_complete(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
