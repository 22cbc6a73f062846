"""A language model that writes: a loose description in, a caption out, learned from examples.

The examples stand in the prompt and nothing is trained ("few-shot", Brown et al. 2020, GPT-3).
What it answers is left open (`write`), or is one of a list of captions (`rank`, `rank_by_gain`).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .pretrained import _model_folder, _quiet_transformers

_GAP = "<description>"  # stands in the prompt where the description will


class InstructionWriter:
    """A conversation in which descriptions were answered by captions, to be continued.

    Args:
        model: a decoder-only language model with its head.
        tokenizer: its own, with a chat template and an end token.
        task: what is to be done, in a sentence or two.
        examples: (description, caption) pairs that show it.

    Attributes:
        calls: how often the model was asked so far.

    Raises:
        ValueError: if the tokenizer has no chat template or no end token.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        task: str,
        examples: Sequence[tuple[str, str]],
    ) -> None:
        if not tokenizer.chat_template or tokenizer.eos_token_id is None:
            raise ValueError(
                f"the tokenizer of {tokenizer.name_or_path!r} has no chat template or no end "
                "token, so its model was not taught to answer; choose one that follows "
                'instructions, such as "smollm2".'
            )
        self.model, self.tokenizer, self.calls = model.eval(), tokenizer, 0
        turns = [("system", task)]
        for description, caption in [*examples, (_GAP, None)]:
            turns += [("user", description), ("assistant", caption)]
        messages = [{"role": role, "content": text} for role, text in turns[:-1]]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        before, self._behind = prompt.split(_GAP)
        self._known: dict[tuple[str, str], float] = {}  # of `rank_by_gain`
        # Read once; each call adds its description behind, and forgets it.
        self._cache = None
        self._read(self._ids(before), 1)

    def write(self, description: str, max_tokens: int = 24) -> str:
        """The likeliest next word, again and again, until the model ends its turn.

        Returns:
            Whatever it wrote, at most `max_tokens` tokens of it.
        """
        written: list[int] = []
        with self._after(self._question(description)) as follows:
            while len(written) < max_tokens:
                token = int(follows[-1].argmax())
                if token == self.tokenizer.eos_token_id:
                    break
                written.append(token)
                follows = self._read([token], 1)
        return self.tokenizer.decode(written).strip()

    def rank(
        self, description: str, captions: Sequence[str], n: int = 1
    ) -> list[tuple[str, float]]:
        """The n captions that the model finds likeliest, with their log-probabilities in nats.

        Exact, and without asking for all of them: beginnings are continued best first, and since a
        longer text is never likelier than its beginning, the first caption that is complete is the
        likeliest of all.

        Args:
            description: to be answered.
            captions: the answers that are allowed.
            n: how many; fewer come back if there are no more.
        """
        found: list[tuple[str, float]] = []
        numbers = itertools.count()  # of equals, the first comes first
        queue = [(0.0, next(numbers), [], self._tree(captions))]
        with self._after(self._question(description)) as first:
            while queue and len(found) < n:
                cost, _, path, node = heapq.heappop(queue)
                if isinstance(node, str):
                    found.append((node, -cost))
                    continue
                follows = self._next(path) if path else first[-1]
                for token, child in node.items():
                    entry = (cost - follows[token].item(), next(numbers), [*path, token], child)
                    heapq.heappush(queue, entry)
        return found

    def rank_by_gain(
        self,
        description: str,
        captions: Sequence[str],
        neutral: str = "something",
        shortlist: int = 24,
    ) -> list[tuple[str, float]]:
        """The likeliest captions, ordered by what the description adds to each, in nats.

        log p(caption | description) - log p(caption | neutral): what the model says whatever it is
        told does not count (Holtzman et al. 2021, the domain-conditional PMI).

        Args:
            description, captions: as for `rank`.
            neutral: a description that asks for nothing in particular.
            shortlist: only so many of the likeliest are compared.
        """
        gains = []
        for caption, log_p in self.rank(description, captions, shortlist):
            key = (neutral, caption)
            if key not in self._known:
                self._known[key] = self.log_probability(neutral, caption)
            gains.append((caption, log_p - self._known[key]))
        return sorted(gains, key=lambda pair: pair[1], reverse=True)

    def log_probability(self, description: str, caption: str) -> float:
        """log p(caption, and no more | description) in nats."""
        ids = [*self._ids(caption), self.tokenizer.eos_token_id]
        with self._after(self._question(description) + ids[:-1], keep=len(ids)) as follows:
            return follows.gather(1, torch.tensor(ids)[:, None]).sum().item()

    # --- asking the model ---

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _question(self, description: str) -> list[int]:
        return self._ids(description + self._behind)

    def _tree(self, captions: Sequence[str]) -> dict:
        """Captions by their tokens: token -> what may follow; end token -> the caption."""
        root: dict = {}
        for caption in captions:
            node = root
            for token in self._ids(caption):
                node = node.setdefault(token, {})
            node[self.tokenizer.eos_token_id] = caption
        return root

    @torch.no_grad()
    def _read(self, ids: list[int], keep: int) -> Tensor:
        """Log-probabilities (keep, V) of what follows each of the last `keep` tokens."""
        output = self.model(
            input_ids=torch.tensor([ids], device=self.model.device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=keep,
        )
        self._cache, self.calls = output.past_key_values, self.calls + 1
        return output.logits[0].float().log_softmax(dim=-1).cpu()

    @contextmanager
    def _after(self, ids: list[int], keep: int = 1) -> Iterator[Tensor]:
        """What follows `ids`, as `_read` gives it; at the end all that was read is forgotten."""
        known = self._cache.get_seq_length()
        try:
            yield self._read(ids, keep)
        finally:
            read = self._cache.get_seq_length() - known
            if read:
                self._cache.crop(-read)

    def _next(self, path: list[int]) -> Tensor:
        with self._after(path) as follows:
            return follows[-1]


def load_writer(
    task: str,
    examples: Sequence[tuple[str, str]],
    name: str = "smollm2",
    allow_network: bool = False,
    device: torch.device | str = "cpu",
) -> InstructionWriter:
    """A language model that writes captions; float32.

    Args:
        task, examples: as for `InstructionWriter`.
        name, allow_network, device: as for `encoders.load_encoder`; a decoder-only model.

    Raises:
        ValueError: if the name is unknown, or the model was not taught to answer.
        registry.AssetError: if it is not on this machine, or damaged.
    """
    folder = _model_folder(name, allow_network)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with _quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True
        )
    return InstructionWriter(model.to(device), tokenizer, task, examples)
