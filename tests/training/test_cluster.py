"""The plan of a large run against arithmetic done by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vislm_tutorial.training.cluster import (
    Cluster,
    Workload,
    link_seconds,
    memory,
    plan,
    ring_all_reduce,
    ring_gather,
)

# Round figures, so that everything can be worked out in the head.
CLUSTER = Cluster(
    gpus=64,
    flops=1000e12,
    memory=80e9,
    gpus_per_node=8,
    inside=400e9,
    between=50e9,
    utilisation=0.5,
    price=2.0,
    watts=1000,
)
WORKLOAD = Workload(parameters=1e9, items=64e6, tokens=256, batch=1024, activations=1e9, blocks=20)


def test_a_ring_sends_each_byte_almost_twice():
    assert ring_gather(4e9, 4, 1e9) == 3.0  # each GPU lacks three of four parts of 1 GB
    assert ring_all_reduce(4e9, 4, 1e9) == 6.0
    assert ring_all_reduce(4e9, 1, 1e9) == 0.0
    assert ring_all_reduce(1e9, 1000, 1e9) == pytest.approx(1.998)


def test_ring_time_is_what_sending_parts_around_takes():
    """The ring step by step: n parts of the size, n - 1 rounds to sum and n - 1 to spread."""
    n, size, link = 5, 10.0, 2.0
    have = [{part: {gpu} for part in range(n)} for gpu in range(n)]  # whose terms a sum holds
    seconds = 0.0
    for turn in range(2 * (n - 1)):
        sent = [((gpu - turn) % n, have[gpu][(gpu - turn) % n]) for gpu in range(n)]
        for gpu, (part, terms) in enumerate(sent):
            have[(gpu + 1) % n][part] = have[(gpu + 1) % n][part] | terms
        seconds += size / n / link
    assert all(terms == set(range(n)) for gpu in have for terms in gpu.values())
    assert ring_all_reduce(size, n, link) == pytest.approx(seconds)


def test_ddp_keeps_all_and_fsdp_a_slice():
    ddp = memory(WORKLOAD, CLUSTER, "ddp")
    assert ddp == {  # 20 bytes a parameter; 16 pictures of 1 GB
        **{"weights": 4e9, "gradients": 4e9, "optimiser": 8e9, "averages": 4e9},
        **{"gathered": 0.0, "activations": 16e9},
    }
    fsdp = memory(WORKLOAD, CLUSTER, "fsdp")
    state = ("weights", "gradients", "optimiser", "averages")
    assert sum(fsdp[name] for name in state) == 20e9 / 64
    assert fsdp["gathered"] == 3 * 4e9 / 20
    assert memory(replace(WORKLOAD, micro_batch=2), CLUSTER, "fsdp")["activations"] == 2e9


def test_gradients_that_add_up_over_micro_batches_are_whole():
    pieces = replace(WORKLOAD, micro_batch=2)
    assert memory(pieces, CLUSTER, "fsdp")["gradients"] == 4e9 + 4e9 / 64
    assert memory(replace(WORKLOAD, micro_batch=16), CLUSTER, "fsdp")["gradients"] == 4e9 / 64
    assert memory(pieces, CLUSTER, "ddp")["gradients"] == 4e9
    assert memory(pieces, replace(CLUSTER, gpus=1), "fsdp")["gradients"] == 4e9


def test_one_gpu_has_nobody_to_share_with():
    alone = replace(CLUSTER, gpus=1)
    assert memory(WORKLOAD, alone, "fsdp") == memory(WORKLOAD, alone, "ddp")
    assert link_seconds(WORKLOAD, alone, "fsdp") == link_seconds(WORKLOAD, alone, "ddp") == 0


def test_links_inside_a_machine_and_between_machines():
    ring = 4e9 * 63 / 64 / 50e9
    assert link_seconds(WORKLOAD, CLUSTER, "ddp") == pytest.approx(2 * ring)
    assert link_seconds(WORKLOAD, CLUSTER, "fsdp") == pytest.approx(3 * ring)
    eight = link_seconds(WORKLOAD, replace(CLUSTER, gpus=8), "ddp")
    assert eight == pytest.approx(2 * 4e9 * 7 / 8 / 400e9)
    pieces = replace(WORKLOAD, micro_batch=4)  # four micro-batches gather the weights eight times
    assert link_seconds(pieces, CLUSTER, "fsdp") == pytest.approx(9 * ring)
    assert link_seconds(pieces, CLUSTER, "ddp") == pytest.approx(2 * ring)
    half = replace(WORKLOAD, wire=2)
    assert link_seconds(half, CLUSTER, "ddp") == pytest.approx(ring)


def test_time_cost_and_energy():
    found = plan(WORKLOAD, CLUSTER, "ddp")
    compute = 6 * 1e9 * 256 * 1024 / 64 / 500e12  # 0.0492 s
    links = 2 * 4e9 * 63 / 64 / 50e9  # 0.1575 s
    step = compute + links - 2 / 3 * compute
    assert found.compute == pytest.approx(compute) and found.links == pytest.approx(links)
    assert found.step == pytest.approx(step) and found.steps == 62_500
    assert found.hours == pytest.approx(62_500 * step / 3600)
    assert found.gpu_hours == pytest.approx(64 * found.hours)
    assert found.cost == pytest.approx(2 * found.gpu_hours)
    assert found.kilowatt_hours == pytest.approx(found.gpu_hours)
    assert found.waiting == pytest.approx(1 - compute / step) and found.fits


def test_links_that_are_quick_enough_are_hidden():
    found = plan(replace(WORKLOAD, batch=8192), CLUSTER, "ddp")
    assert found.links < 2 / 3 * found.compute and found.step == found.compute
    assert found.waiting == 0


def test_what_does_not_fit_is_said():
    large = replace(WORKLOAD, parameters=10e9, activations=0.1e9)
    assert not plan(large, CLUSTER, "ddp").fits  # 200 GB
    assert plan(large, CLUSTER, "fsdp").fits


def test_bad_figures_are_refused():
    with pytest.raises(ValueError, match="gpus is 12; expected 1 to 8 .* multiple of 8"):
        replace(CLUSTER, gpus=12)
    with pytest.raises(ValueError, match="Cluster.price is -1"):
        replace(CLUSTER, price=-1)
    with pytest.raises(ValueError, match="batch is 0"):
        replace(WORKLOAD, batch=0)
    for name in ("flops", "utilisation", "inside", "between"):
        with pytest.raises(ValueError, match=f"Cluster.{name} is 0; expected above 0"):
            replace(CLUSTER, **{name: 0})
    for name in ("parameters", "tokens"):
        with pytest.raises(ValueError, match=f"Workload.{name} is 0; expected above 0"):
            replace(WORKLOAD, **{name: 0})
    with pytest.raises(ValueError, match="sharding is 'zero'"):
        plan(WORKLOAD, CLUSTER, "zero")
