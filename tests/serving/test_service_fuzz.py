"""The service against requests made from its own OpenAPI description, right and wrong ones."""

from __future__ import annotations

import pytest
import schemathesis
from fake_model import FakeModel
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from vislm_tutorial.serving.collect import CaptionLog
from vislm_tutorial.serving.running import running
from vislm_tutorial.serving.service import build_service

PLACES = [
    ("/draw", "POST"),
    ("/feedback", "POST"),
    ("/health/live", "GET"),
    ("/health/ready", "GET"),
    ("/metrics", "GET"),
]
BODIES = [place for place in PLACES if place[1] == "POST"]
RIGHT, WRONG = GenerationMode.POSITIVE, GenerationMode.NEGATIVE


@pytest.fixture(scope="module")
def description(tmp_path_factory):
    """The description that a running service gives of itself."""
    log = CaptionLog(tmp_path_factory.mktemp("log"))
    with running(build_service(FakeModel, log=log)) as url:
        yield schemathesis.openapi.from_url(url + "/openapi.json", wait_for_schema=10)


def test_all_places_are_described(description):
    found = {(o.ok().path, o.ok().method.upper()) for o in description.get_all_operations()}
    assert found == set(PLACES)


@pytest.mark.parametrize(
    ("place", "method", "mode"),
    [(*place, RIGHT) for place in PLACES] + [(*place, WRONG) for place in BODIES],
)
def test_the_service_is_as_it_describes_itself(description, place, method, mode):
    # No 500; no status, type or body that is not described; what keeps to the description is
    # taken, what breaks it is refused.
    @given(case=description[place][method].as_strategy(mode))
    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def hold(case):
        case.call_and_validate()

    hold()
