"""The HTTP service over a real socket: answers, refusals, a full queue, timeouts, shutdown."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import torch
from fake_model import FakeModel, until
from PIL import Image
from tiny_pipeline import tiny_pipeline

from vislm_tutorial.encoders import load_encoder
from vislm_tutorial.serving.asking import DrawRequest, Limits, draw, notes
from vislm_tutorial.serving.collect import CaptionLog
from vislm_tutorial.serving.running import running
from vislm_tutorial.serving.service import ServiceConfig, build_service
from vislm_tutorial.serving.worker import DrawingWorker, NotReady, QueueFull

ASK = {"captions": ["a red circle"]}


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def service(model, tmp_path):
    """(client, application) of a service with two places in the queue and a log."""
    config = ServiceConfig(waiting=2, timeout=5.0, body_bytes=2_000)
    app = build_service(lambda: model, config, CaptionLog(tmp_path))
    with running(app) as url, httpx.Client(base_url=url, timeout=20) as client:
        yield client, app
        model.go.set()


def error(response, status: int) -> dict:
    """The error of an answer, which must have this status and the form that all errors have."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body.keys() == {"error"} and body["error"].keys() == {"code", "message", "details"}
    return body["error"]


def counted(client, outcome: str) -> float:
    found = re.search(
        rf'^vislm_answers_total{{outcome="{outcome}"}} (\S+)$', client.get("/metrics").text, re.M
    )
    return float(found[1]) if found else 0.0


def raw_request(url, body: bytes, announced: int | None = None) -> socket.socket:
    """A connection over which a drawing was asked for; whoever closes it has gone away."""
    url = httpx.URL(url)
    client = socket.create_connection((url.host, url.port), timeout=10)
    head = "POST /draw HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
    client.sendall(f"{head}Content-Length: {announced or len(body)}\r\n\r\n".encode() + body)
    return client


def ask_beside(pool, client, n: int = 1) -> list:
    return [pool.submit(client.post, "/draw", json=ASK) for _ in range(n)]


# --- requests -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"captions": ()}, "captions: 0; expected 1 to 4"),
        ({"captions": ("a",) * 5}, "captions: 5"),
        ({"captions": ("x" * 301,)}, "characters of a caption: 301"),
        ({"images_per_caption": 5}, "images_per_caption: 5"),
        ({"steps": 0}, "steps: 0; expected 1 to 80"),
        ({"guidance_scale": math.nan}, "guidance_scale: nan"),
        ({"guidance_scale": -1.0}, "guidance_scale: -1"),
        ({"seed": -1}, "seed: -1"),
    ],
)
def test_a_request_beyond_the_limits_is_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        DrawRequest(**({"captions": ("a circle",)} | wrong))


def test_a_request_is_drawn_as_the_pipeline_draws_it():
    pipe = tiny_pipeline(load_encoder("minilm", layers="mean"))
    request = DrawRequest(("a circle", "a square"), 2, steps=2, guidance_scale=2.0, seed=7)
    together = draw(pipe, request)
    alone = draw(pipe, DrawRequest(("a square",), 1, steps=2, guidance_scale=2.0, seed=9))
    assert len(together) == 4 and request.seeds == [7, 8, 9, 10]
    # By its seed a picture can be asked for again, up to the rounding of another batch.
    pixels = [
        torch.tensor(list(image.convert("RGB").tobytes())).float()
        for image in (together[2], alone[0])
    ]
    assert (pixels[0] - pixels[1]).abs().max() <= 2
    assert notes(pipe, request) == []
    long = DrawRequest(("circle " * 42,))
    assert "64 of 44" not in str(notes(pipe, long)) and notes(pipe, long) == []
    assert "64 of 72" in notes(pipe, DrawRequest(("a " * 70,)))[0]


# --- answers ------------------------------------------------------------------------------------


def test_pictures_come_with_their_captions_and_seeds(service, model):
    client, _ = service
    body = {"captions": ["a", "b"], "images_per_caption": 2, "seed": 5, "steps": 3.0}
    answer = client.post("/draw", json=body | {"guidance_scale": 2}).json()
    assert [(p["caption"], p["seed"]) for p in answer["images"]] == [
        ("a", 5),
        ("a", 6),
        ("b", 7),
        ("b", 8),
    ]
    picture = Image.open(io.BytesIO(base64.b64decode(answer["images"][0]["png"])))
    assert picture.size == (8, 8) and picture.getpixel((0, 0)) == (128, 128, 128)
    options = {"num_inference_steps": 3, "guidance_scale": 2.0}
    assert model.calls == [(["a", "b"], [5, 6, 7, 8], options)]
    assert answer["notes"] == [] and answer["seconds"] >= 0
    told = client.post("/draw", json={"captions": ["w " * 9]}).json()["notes"]
    assert "first 8 of 9 tokens" in told[0]


def test_one_png_on_demand(service):
    client, _ = service
    response = client.post("/draw", json=ASK | {"format": "png"})
    assert response.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(response.content)).format == "PNG"
    assert response.headers["x-vislm-notes"] == "[]" and len(response.headers["x-vislm-id"]) == 32
    long = {"captions": ["ü\r\nSet-Cookie: a=b " * 9], "format": "png"}
    told = client.post("/draw", json=long).headers
    assert "set-cookie" not in told and "ü\r\n" in json.loads(told["x-vislm-notes"])[0]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "body.captions"),
        ({"captions": []}, "body.captions"),
        ({"captions": ["a"] * 5}, "body.captions"),
        ({"captions": ["x" * 301]}, "body.captions.0"),
        (ASK | {"steps": 81}, "body.steps"),
        (ASK | {"steps": "3"}, "body.steps"),
        (ASK | {"seed": -1}, "body.seed"),
        (ASK | {"images_per_caption": 0}, "body.images_per_caption"),
        (ASK | {"guidance_scale": 1e9}, "body.guidance_scale"),
        (ASK | {"format": "gif"}, "body.format"),
        (ASK | {"colour": "red"}, "body.colour"),
    ],
)
def test_bad_input_is_refused_and_told_where(service, model, body, where):
    client, _ = service
    refusal = error(client.post("/draw", json=body), 422)
    assert refusal["code"] == "invalid_request"
    assert refusal["details"][0]["where"].startswith(where)
    assert not model.calls and counted(client, "invalid_request") == 1


def test_what_is_no_json_is_refused_and_not_sent_back(service):
    client, _ = service
    for text in ("{", "NaN", '{"captions": ["a"], "guidance_scale": NaN}', "<script>"):
        response = client.post("/draw", content=text, headers={"content-type": "application/json"})
        error(response, 422)
        assert "script" not in response.text
    bytes_ = client.post("/draw", content=b"\xff(", headers={"content-type": "application/json"})
    assert error(bytes_, 400)["code"] == "not_json"
    assert error(client.get("/draw"), 405)["code"] == "method_not_allowed"
    assert error(client.get("/nothing"), 404)["code"] == "not_found"


def test_large_bodies_are_refused_before_they_are_read(service):
    client, _ = service
    assert error(client.post("/draw", content=b"x" * 5_000), 413)["code"] == "too_large"
    pieces = (b"x" * 500 for _ in range(10))  # without a Content-Length
    assert error(client.post("/draw", content=pieces), 413)["code"] == "too_large"


def test_a_body_that_does_not_come_is_not_waited_for(model):
    app = build_service(lambda: model, ServiceConfig(body_seconds=0.2))
    with running(app) as url, raw_request(url, b"{", announced=100) as client:
        answer = client.makefile("rb").read()  # to its end: the connection is closed
        assert answer.startswith(b"HTTP/1.1 408") and b"too_slow" in answer
        assert httpx.post(url + "/draw", json=ASK).status_code == 200


def test_the_worker_outlives_what_fails_and_keeps_it_to_itself(service, caplog):
    client, _ = service
    for caption in ("fail", "unknown setting"):  # whatever kind of error it is
        failed = client.post("/draw", json={"captions": [caption]})
        assert error(failed, 500)["code"] == "internal"
        assert "secret" not in failed.text and "such setting" not in failed.text
    assert "a secret of the machine" in caplog.text and "such setting" in caplog.text
    assert client.post("/draw", json=ASK).status_code == 200


def test_a_setting_that_the_family_does_not_have_is_named_before_drawing(service, model):
    client, _ = service
    model.generator.settings = {"temperature": 1.0}
    assert "no such setting" in error(client.post("/draw", json=ASK | {"steps": 3}), 422)["message"]
    assert not model.calls and client.post("/draw", json=ASK).status_code == 200


# --- load ---------------------------------------------------------------------------------------


def test_a_full_queue_refuses_at_once_and_takes_again(service, model):
    client, app = service
    worker = app.state.worker
    model.go.clear()
    with ThreadPoolExecutor(3) as pool:
        answers = ask_beside(pool, client)
        until(lambda: len(model.calls) == 1)  # it is being drawn: the queue is empty again
        answers += ask_beside(pool, client, 2)
        until(lambda: worker.waiting == 2)
        refused = client.post("/draw", json=ASK)
        assert error(refused, 429)["code"] == "queue_full"
        assert int(refused.headers["retry-after"]) >= 1
        assert "vislm_waiting 2.0" in client.get("/metrics").text
        model.go.set()
        assert [answer.result().status_code for answer in answers] == [200] * 3
    assert client.post("/draw", json=ASK).status_code == 200
    assert counted(client, "queue_full") == 1 and counted(client, "drawn") == 4


def test_a_timeout_stops_the_drawing(model):
    app = build_service(lambda: model, ServiceConfig(timeout=0.2))
    with running(app) as url, httpx.Client(base_url=url, timeout=20) as client:
        model.go.clear()
        assert error(client.post("/draw", json=ASK), 504)["code"] == "timeout"
        until(lambda: model.stopped == 1)  # cut short between two steps
        model.go.set()
        assert client.post("/draw", json=ASK).status_code == 200
        assert counted(client, "timeout") == 1


def test_for_a_client_that_went_away_nothing_is_drawn(service, model):
    client, app = service
    model.go.clear()
    first = raw_request(client.base_url, json.dumps(ASK).encode())
    until(lambda: len(model.calls) == 1)
    second = raw_request(client.base_url, b'{"captions": ["nobody"]}')
    until(lambda: app.state.worker.waiting == 1)
    second.close()
    until(lambda: counted(client, "client_gone") == 1)
    first.close()
    until(lambda: model.stopped == 1)  # cut short between two steps
    model.go.set()
    assert client.post("/draw", json=ASK).status_code == 200
    assert [prompts for prompts, *_ in model.calls] == [ASK["captions"]] * 2


def test_who_left_the_queue_is_passed_over(model):
    worker = DrawingWorker(lambda: model, waiting=3)
    worker.start()
    until(lambda: worker.ready)
    model.go.clear()
    jobs = [worker.submit(DrawRequest((name,))) for name in "a"]
    until(lambda: len(model.calls) == 1)
    jobs += [worker.submit(DrawRequest((name,))) for name in "bc"]
    jobs[1].abandon()
    model.go.set()
    jobs[2].future.result(timeout=10)
    assert [prompts for prompts, *_ in model.calls] == [["a"], ["c"]] and not model.stopped
    assert worker.close()


def test_health_follows_the_model(caplog):
    def load():
        raise FileNotFoundError("no weights here")

    app = build_service(load)
    with pytest.raises(RuntimeError, match="no weights here"):
        with running(app):
            pass
    assert "no weights here" in caplog.text

    async def asked() -> list:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return [await client.get("/health/ready"), await client.post("/draw", json=ASK)]

    for answer in asyncio.run(asked()):  # a stranger is not told
        assert error(answer, 503)["code"] == "not_ready" and "weights" not in answer.text
    model = FakeModel()
    with running(build_service(lambda: model)) as url:
        assert httpx.get(url + "/health/live").json() == {"status": "alive"}
        assert httpx.get(url + "/health/ready").json() == {"status": "ready"}


def test_before_the_model_is_there_nothing_is_taken():
    worker = DrawingWorker(FakeModel)
    with pytest.raises(NotReady, match="not loaded"):
        worker.submit(DrawRequest(("a",)))
    with pytest.raises(ValueError, match="waiting is 0"):
        DrawingWorker(FakeModel, waiting=0)


def test_closing_finishes_what_is_drawn_and_refuses_what_waits(model):
    worker = DrawingWorker(lambda: model, waiting=2)
    worker.start()
    until(lambda: worker.ready)
    model.go.clear()
    drawn = worker.submit(DrawRequest(("a",)))
    until(lambda: len(model.calls) == 1)
    waits = worker.submit(DrawRequest(("b",)))
    with ThreadPoolExecutor(1) as pool:
        closed = pool.submit(worker.close, 10.0)
        until(lambda: not worker.ready)
        with pytest.raises(NotReady, match="closing"):
            worker.submit(DrawRequest(("c",)))
        model.go.set()
        assert closed.result()
    assert len(drawn.future.result().images) == 1
    with pytest.raises(NotReady):
        waits.future.result()


def test_closing_does_not_wait_for_ever(model):
    worker = DrawingWorker(lambda: model, waiting=1)
    worker.start()
    until(lambda: worker.ready)
    model.go.clear()
    worker.submit(DrawRequest(("a",)))
    until(lambda: len(model.calls) == 1)
    assert worker.close(grace=0.05) and model.stopped == 1


def test_retry_after_is_when_the_queue_will_be_empty(model):
    worker = DrawingWorker(lambda: model, waiting=3)
    worker.start()
    until(lambda: worker.ready)
    model.go.clear()
    worker._seconds = 2.5
    worker.submit(DrawRequest(("a",)))
    until(lambda: len(model.calls) == 1)
    for _ in range(3):
        worker.submit(DrawRequest(("a",)))
    with pytest.raises(QueueFull) as full:
        worker.submit(DrawRequest(("a",)))
    assert full.value.retry_after == 10  # three that wait and the one under way, 2.5 s each
    worker.close(grace=0.01)


def test_a_model_is_swapped_between_two_requests(service, model):
    client, app = service
    app.state.worker.swap(FakeModel(grey=7))
    answer = client.post("/draw", json=ASK).json()
    picture = Image.open(io.BytesIO(base64.b64decode(answer["images"][0]["png"])))
    assert picture.getpixel((0, 0)) == (7, 7, 7) and not model.calls


# --- collecting ---------------------------------------------------------------------------------


def test_captions_are_kept_with_consent_only(service, tmp_path):
    client, _ = service
    client.post("/draw", json={"captions": ["not mine to keep"]})
    answer = client.post("/draw", json=ASK | {"consent": True, "seed": 4}).json()
    (kept,) = CaptionLog(tmp_path).read()
    assert (kept.caption, kept.id, kept.seed, kept.right) == ("a red circle", answer["id"], 4, None)
    said = {"id": answer["id"], "right": False}
    assert client.post("/feedback", json=said).status_code == 204
    assert CaptionLog(tmp_path).read()[0].right is False
    refusal = error(client.post("/feedback", json=said | {"id": "another"}), 404)
    assert refusal["code"] == "unknown_id"


def test_what_was_not_kept_takes_no_feedback(service, tmp_path):
    client, _ = service
    private = {"captions": ["mail ann@host.example"], "consent": True}
    said = {"id": client.post("/draw", json=private).json()["id"], "right": False}
    assert error(client.post("/feedback", json=said), 404)["code"] == "unknown_id"
    assert not CaptionLog(tmp_path).files()


def test_a_full_disk_costs_nobody_a_picture(service, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    client, _ = service
    monkeypatch.setattr(CaptionLog, "append", full)
    answer = client.post("/draw", json=ASK | {"consent": True})
    assert answer.status_code == 200 and "No space left" in caplog.text
    error(client.post("/feedback", json={"id": answer.json()["id"], "right": True}), 404)


def test_no_page_loads_scripts_from_elsewhere(service):
    client, _ = service
    for page in ("/docs", "/redoc"):
        error(client.get(page), 404)
    assert client.get("/openapi.json").status_code == 200


def test_without_a_log_there_is_no_feedback(model):
    with running(build_service(lambda: model)) as url:
        error(httpx.post(url + "/feedback", json={"id": "a", "right": True}), 404)


def test_the_limits_stand_in_the_description(model):
    app = build_service(lambda: model, ServiceConfig(limits=Limits(steps=11)))
    body = app.openapi()["components"]["schemas"]["Draw"]
    assert body["additionalProperties"] is False
    assert {"maximum": 11, "minimum": 1, "type": "integer"} in body["properties"]["steps"]["anyOf"]
