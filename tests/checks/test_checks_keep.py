"""The checks of the page on collecting and re-tuning accept right answers and name wrong ones."""

from __future__ import annotations

from collections import Counter

from both_ways import (  # noqa: F401
    pytest_generate_tests,
    test_every_check_is_tested_both_ways,
    test_right_answers_pass,
    test_wrong_answers_are_told_their_mistake,
)

from vislm_tutorial.checks import check_accept, check_reportable, check_risen
from vislm_tutorial.evaluation.control import share
from vislm_tutorial.serving.gate import compare


def risen(before, after):
    return share(after).low > share(before).high


def gate(old_bound, new_bound):
    def accept(old_before, old_after, new_before, new_after):
        old, new = compare(old_before, old_after), compare(new_before, new_after)
        return old_bound(old) and new_bound(new)

    return accept


def reportable(captions, known, least):
    counts = Counter(word for words in captions for word in set(words))
    return {word for word, count in counts.items() if count >= least and word not in known}


def spread(flags):
    return sum(flags) / len(flags)


RIGHT = [
    (check_risen, risen),
    (check_accept, gate(lambda old: old.low > -0.1, lambda new: new.low > 0)),
    (check_reportable, reportable),
]
WRONG = [
    (check_risen, lambda a, b: False, "lie far apart"),
    (check_risen, lambda a, b: spread(b) > spread(a), "may be luck"),
    (check_risen, lambda a, b: abs(spread(b) - spread(a)) > 0.1, "The share fell"),
    (check_risen, lambda a, b: spread(b) - spread(a) > 0.1, "narrower with n"),
    (check_risen, lambda a, b: risen(a, b) or (not any(a) and any(b)), "0 seen is not 0"),
    (check_accept, lambda *answers: False, "let it through"),
    (check_accept, gate(lambda old: True, lambda new: new.low > 0), "does not make up"),
    (check_accept, gate(lambda old: old.low > -0.1, lambda new: new.value >= 0), "Nothing is won"),
    (check_accept, gate(lambda old: old.low > -0.1, lambda new: new.value > 0), "may be luck"),
    (check_accept, gate(lambda old: old.value > -0.1, lambda new: new.low > 0), "0.15"),
    (check_accept, gate(lambda old: old.value >= 0, lambda new: new.low > 0), "without any loss"),
    (
        check_reportable,
        lambda c, k, n: {
            w for w, m in Counter(w for ws in c for w in ws).items() if m >= n and w not in k
        },
        "Count captions",
    ),
    (check_reportable, lambda c, k, n: {w for ws in c for w in ws}, "Neither count"),
    (check_reportable, lambda c, k, n: reportable(c, k, n + 1), "exactly `least`"),
    (check_reportable, lambda c, k, n: sorted(reportable(c, k, n)), "Return a set"),
    (
        check_reportable,
        lambda c, k, n: reportable(c, k if n > 1 else set(), n),
        "Known words are no news",
    ),
]
