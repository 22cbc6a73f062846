"""Checks of page 5.13: right answers pass, known mistakes are named."""

from __future__ import annotations

from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_learns, check_snr_weight, check_velocity


def learns(name, stage):
    return name.startswith("fusion.") or (stage == 2 and "lora_" in name)


def velocity(noisy, noise, alpha_bar):
    clean = (noisy - (1 - alpha_bar).sqrt() * noise) / alpha_bar.sqrt()
    return alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * clean


def clean_of(noisy, noise, a):
    return (noisy - (1 - a).sqrt() * noise) / a.sqrt()


def weight(alpha_bar, gamma, kind):
    snr = alpha_bar / (1 - alpha_bar)
    return min(snr, gamma) / (snr if kind == "epsilon" else snr + 1)


def ratio(a):
    return a / (1 - a)


RIGHT = [(check_learns, learns), (check_velocity, velocity), (check_snr_weight, weight)]
WRONG = [
    (check_learns, lambda name, stage: "lora_" in name or "fusion" in name, "Stage 1 has no U-Net"),
    (check_learns, lambda name, stage: "fusion" in name, "what stage 2 is for"),
    (check_learns, lambda name, stage: learns(name, stage) or "unet" in name, "base_layer"),
    (check_learns, lambda name, stage: True, "came finished"),
    (check_learns, lambda name, stage: stage == 2 and learns(name, 2), "learns in both stages"),
    (check_velocity, lambda x, e, a: -velocity(x, e, a), "sign"),
    (check_velocity, lambda x, e, a: e - clean_of(x, e, a), "a flow's velocity"),
    (check_velocity, lambda x, e, a: a.sqrt() * e - (1 - a).sqrt() * x, "the clean one"),
    (
        check_velocity,
        lambda x, e, a: a.sqrt() * clean_of(x, e, a) - (1 - a).sqrt() * e,
        "roots are swapped",
    ),
    (
        check_velocity,
        lambda x, e, a: a * e - (1 - a) * (x - (1 - a) * e) / a,
        "take square roots",
    ),
    (check_velocity, clean_of, "One more step"),
    (check_snr_weight, lambda a, g, k: min(ratio(a), g), "Which error is squared"),
    (
        check_snr_weight,
        lambda a, g, k: max(ratio(a), g) / (ratio(a) + (k != "epsilon")),
        "take min",
    ),
    (
        check_snr_weight,
        lambda a, g, k: min(ratio(a) ** 0.5, g) / (ratio(a) ** 0.5 + (k != "epsilon")),
        "of variances",
    ),
    (check_snr_weight, lambda a, g, k: min(ratio(a), g) / ratio(a), "divide by SNR + 1"),
    (check_snr_weight, lambda a, g, k: min(ratio(a), g) / (ratio(a) + 1), "SNR + 1 is for v"),
    (check_snr_weight, lambda a, g, k: 1 / weight(a, g, k), "Upside down"),
]
