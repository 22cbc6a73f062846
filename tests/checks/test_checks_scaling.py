"""Each check of page 5.14 accepts the right answer and names the usual mistakes."""

from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_fsdp_bytes, check_rescaled_rate, check_ring_seconds

RIGHT = [
    (check_rescaled_rate, lambda rate, batch, n, each: rate * n * each / batch),
    (check_fsdp_bytes, lambda parameters, n: 5 * 4 * parameters / n),
    (check_ring_seconds, lambda parameters, n, link: 8 * parameters * (n - 1) / n / link),
]
WRONG = [
    (check_rescaled_rate, lambda rate, batch, n, each: rate * each / batch, "processes count too"),
    (check_rescaled_rate, lambda rate, batch, n, each: rate * n, "has changed as well"),
    (check_rescaled_rate, lambda rate, batch, n, each: rate * batch / n / each, "Upside down"),
    (
        check_rescaled_rate,
        lambda rate, batch, n, each: rate * (n * each / batch) ** 0.5,
        "square-root rule",
    ),
    (check_rescaled_rate, lambda rate, batch, n, each: rate, "has not moved"),
    (check_rescaled_rate, lambda rate, batch, n, each: 8 * rate, "cut into 4 times 16"),
    (check_fsdp_bytes, lambda parameters, n: 20 * parameters, "what DDP keeps"),
    (check_fsdp_bytes, lambda parameters, n: 4 * parameters / n, "weights alone"),
    (check_fsdp_bytes, lambda parameters, n: 16 * parameters / n, "One of five is missing"),
    (check_fsdp_bytes, lambda parameters, n: 16 * parameters + 4 * parameters / n, "are sliced as"),
    (check_fsdp_bytes, lambda parameters, n: 4 * parameters + 16 * parameters / n, "sliced too"),
    (check_fsdp_bytes, lambda parameters, n: 5 * parameters / n, "4 bytes"),
    (check_ring_seconds, lambda parameters, n, link: 4 * parameters * (n - 1) / n / link, "Half"),
    (
        check_ring_seconds,
        lambda parameters, n, link: 2 * parameters * (n - 1) / n / link,
        "float32",
    ),
    (check_ring_seconds, lambda parameters, n, link: 8 * parameters / link, "at home already"),
    (check_ring_seconds, lambda parameters, n, link: 8 * parameters * (n - 1) / link, "an n-th"),
    (
        check_ring_seconds,
        lambda parameters, n, link: 64 * parameters * (n - 1) / n / link,
        "not in bits",
    ),
]
