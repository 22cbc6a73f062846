"""Checks of the book's exercises, one module a chapter; a name loads its module on first use.

A check takes the reader's answer. It prints one line that says what was verified, or raises
`CheckFailed` with a message that names the mistake.
"""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "CheckFailed": "report",
    "check_above": "practice_runs",
    "check_accept": "keep",
    "check_active_share": "vaes",
    "check_allowed": "principle",
    "check_attention_weights": "fusions",
    "check_average": "practice_runs",
    "check_best_critic": "likelihoods",
    "check_best_picture": "likelihoods",
    "check_best_std": "likelihoods",
    "check_bits": "dynamics",
    "check_bottleneck": "tuning",
    "check_both_unseen": "unseen",
    "check_bound": "planning",
    "check_calls": "practice_runs",
    "check_caption_labels": "errata",
    "check_causal_kernel": "pixels",
    "check_causal_mask": "concepts",
    "check_centre_square": "practice",
    "check_clip": "dynamics",
    "check_code_cost": "likelihoods",
    "check_code_loss": "listing",
    "check_concept_marks": "benchmark",
    "check_condition_shape": "concepts",
    "check_decided_at": "flows",
    "check_decoupled": "optimisers",
    "check_difference": "evidence",
    "check_draw_code": "likelihoods",
    "check_drop": "practice_runs",
    "check_entropy_of": "concepts",
    "check_epoch_loss": "listing",
    "check_epochs": "practice_runs",
    "check_exchange": "principle",
    "check_first_step": "dynamics",
    "check_fsdp_bytes": "scaling",
    "check_gaussian_kl": "vaes",
    "check_guide": "background",
    "check_guide_between": "dynamics",
    "check_half_precision": "practice",
    "check_heun": "dynamics",
    "check_inside": "serving",
    "check_int8_bytes": "files",
    "check_interval": "practice_runs",
    "check_isolation": "concepts",
    "check_jensen_shannon": "likelihoods",
    "check_knows": "unseen",
    "check_largest_micro_batch": "planning",
    "check_leaks": "practice",
    "check_learners": "principle",
    "check_learns": "bigger",
    "check_log_uniform": "search",
    "check_logistic_probability": "likelihoods",
    "check_lora_forward": "tuning",
    "check_loss_scale": "gpu",
    "check_luck": "transfer",
    "check_masked_mean": "background",
    "check_metadata": "practice",
    "check_mirrored": "optimisers",
    "check_needed": "skills",
    "check_nearest_word": "why",
    "check_noise_to_velocity": "dynamics",
    "check_noisy": "practice",
    "check_number_format": "gpu",
    "check_number_of_captions": "background",
    "check_one_side": "dynamics",
    "check_optimiser_bytes": "planning",
    "check_overall": "practice_runs",
    "check_paired_error": "benchmark",
    "check_pairs_needed": "transfer",
    "check_patience": "optimisers",
    "check_perplexity": "codes",
    "check_places": "serving",
    "check_pmi": "dynamics",
    "check_product_of_parts": "skills",
    "check_prune": "search",
    "check_psnr": "practice",
    "check_r1": "games",
    "check_rank_parameters": "tuning",
    "check_reach": "pixels",
    "check_read_label": "background",
    "check_report": "search",
    "check_reportable": "keep",
    "check_rescaled_rate": "scaling",
    "check_retry_after": "serving",
    "check_ring_seconds": "scaling",
    "check_risen": "keep",
    "check_same_scene": "practice",
    "check_sequence_log_prob": "concepts",
    "check_share_of_deals": "fusions",
    "check_shows": "background",
    "check_sign_test": "families",
    "check_smallest_p": "evidence",
    "check_snr_weight": "bigger",
    "check_soft_cross_entropy": "likelihoods",
    "check_step_flops": "gpu",
    "check_stops_at": "principle",
    "check_straightness": "flows",
    "check_temper": "dynamics",
    "check_tilted_std": "dynamics",
    "check_to_int8": "files",
    "check_top_p": "codes",
    "check_training_bytes": "practice",
    "check_transplant": "why",
    "check_undominated": "families",
    "check_velocity": "bigger",
    "check_verdict": "games",
    "check_whole_caption": "principle",
    "check_worth_having": "principle",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
