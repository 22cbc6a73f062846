"""What a prompt asks for, clause by clause, and the fingerprint of a list of prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

VERSION = "1"  # of ExactEval; raise it whenever a prompt, a clause or a rule of judgement changes


@dataclass(frozen=True)
class Clause:
    """ "`count` of `shape`", perhaps with attributes, perhaps placed relative to an earlier clause.

    `position` is (relation, i): the objects of this clause stand in that relation to those of the
    prompt's include clause number i.
    """

    shape: str
    count: int = 1
    colour: str | None = None
    position: tuple[str, int] | None = None
    size: str | None = None
    fill: str | None = None

    @property
    def attributes(self) -> dict[str, str]:
        """What is asked of each object's colour, size and fill; without what is left free."""
        asked = {"colour": self.colour, "size": self.size, "fill": self.fill}
        return {name: value for name, value in asked.items() if value is not None}


@dataclass(frozen=True)
class Prompt:
    """A caption; what its picture must show; and what it must not (`count` or more of a shape).

    `background` is one of `scenes.BACKGROUNDS`, or None where any will do.
    """

    text: str
    include: tuple[Clause, ...]
    exclude: tuple[Clause, ...]
    task: str
    background: str | None = None


@dataclass(frozen=True)
class Check:
    """One thing a prompt asks for: its kind, whether the picture has it, and if not, why."""

    kind: str  # one of `scores.KINDS`
    holds: bool
    reason: str = ""


def prompt_hash(prompts: Iterable[Prompt]) -> str:
    """The sha256 of prompts in their order: of their texts and of all that their clauses ask for.

    What is left free (None) does not count, so a new kind of clause leaves older prompts alone.
    """

    def plain(clause: Clause) -> dict:
        return {name: value for name, value in asdict(clause).items() if value is not None}

    rows = [
        [p.text, [plain(c) for c in p.include], [plain(c) for c in p.exclude], p.background]
        for p in prompts
    ]
    text = json.dumps(rows, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
