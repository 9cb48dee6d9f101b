"""What lm-evaluation-harness asks of a model, answered by a running artifact; importing it needs `lm_eval`.

Texts become tokens, and are cut to the context, as the harness does it for models of transformers, so that scores are
comparable.
"""

import functools
import queue
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from mkllm.builder.errors import TaskFailed
from mkllm.builder.harness.server import Server
from mkllm.builder.progress import Output, plain

CHOICES = 64  # that have one context, which is made tokens of once
SAMPLING = ("temperature", "top_k", "top_p", "min_p")

Pair = tuple[Any, list[int], list[int]]
Job = tuple[int, Callable[[int], "list[Answer]"]]
Answer = tuple[int, Any]


class Served(TemplateLM):
    """The model of a server."""

    def __init__(self, server: Server, output: Output) -> None:
        super().__init__()
        self._server = server
        self._output = output
        self._facts = server.facts()
        self._tokens = functools.lru_cache(CHOICES)(lambda text, special: tuple(server.tokenize(text, special)))
        self._end = self._special(self._facts.eos)
        self._begin = self._special(self._facts.bos) if self._facts.bos else self._end

    @property
    def eot_token_id(self) -> int:
        return self._end

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without a context."""
        return self._begin

    @property
    def max_length(self) -> int:
        """Of how many tokens the next one can be predicted."""
        return self._facts.context - 1

    @property
    def tokenizer_name(self) -> str:
        return self._facts.model

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return self._facts.chat_template if chat_template else None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return self._server.render(chat_history, add_generation_prompt)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        begun = bool(self._facts.bos) and string.startswith(self._facts.bos)
        return list(self._tokens(string, not begun if add_special_tokens is None else add_special_tokens))

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """As the harness does it, but without its progress bar."""
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return found

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        pairs: list[Pair] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for context, continuation in map(make_disjoint_window, windows):
                pairs.append((None, list(context), list(continuation)))
                owners.append(number)
        totals = [0.0] * len(requests)
        for number, (value, _) in zip(owners, self._loglikelihood_tokens(pairs), strict=True):
            totals[number] += value
        return totals

    def _loglikelihood_tokens(self, requests: Sequence[Pair], **kwargs: Any) -> list[tuple[float, bool]]:
        """Requests with the same context are scored one after the other, where it is computed already."""
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        cut = [self._cut(context, continuation) for _, context, continuation in requests]
        for number, (context, _) in enumerate(cut):
            groups[tuple(context)].append(number)

        def score(numbers: list[int]) -> Callable[[int], list[Answer]]:
            return lambda slot: [(number, self._score(*cut[number], slot)) for number in numbers]

        longest = max((len(context) + len(continuation) for context, continuation in cut), default=1)
        jobs = [(sum(len(cut[one][1]) for one in numbers), score(numbers)) for numbers in groups.values()]
        return self._answered(jobs, longest, "scoring")

    def _score(self, context: list[int], continuation: list[int], slot: int) -> tuple[float, bool]:
        total, greedy = 0.0, True
        for place, token in enumerate(continuation):
            value, first = self._server.score(context + continuation[:place], token, slot, self._facts, self._end)
            total, greedy = total + value, greedy and first
        return total, greedy

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        asked = [(self.tok_encode(request.args[0]), normalize_gen_kwargs(request.args[1])) for request in requests]

        def generate(number: int, prompt: list[int], how: dict[str, Any]) -> Callable[[int], list[Answer]]:
            most, until = how["max_gen_toks"], [text for text in how["until"] if text]
            sampling = {name: how[name] for name in SAMPLING if how.get(name) is not None}
            return lambda slot: [(number, self._server.generate(prompt, slot, most, until, sampling))]

        jobs, longest = [], 1
        for number, (prompt, options) in enumerate(asked):
            most = options["max_gen_toks"]
            if most >= self.max_length:
                raise self._too_small(f"an answer of up to {most} tokens")
            kept = prompt[-(self.max_length - most) :]
            longest = max(longest, len(kept) + most)
            jobs.append((1, generate(number, kept, options)))
        return self._answered(jobs, longest, "answering")

    def _answered(self, jobs: Sequence[Job], longest: int, what: str) -> list[Any]:
        """The answers in order. So many jobs run at once as the context has room for, which all of them share."""
        slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        count = max(1, min(self._facts.slots, self._facts.context // longest))
        for number in range(count):
            slots.put(number)

        def run(job: Job) -> list[Answer]:
            slot = slots.get()
            try:
                return job[1](slot)
            finally:
                slots.put(slot)

        found: dict[int, Any] = {}
        total = sum(weight for weight, _ in jobs)
        title = f"{self._facts.model} {what}"
        with ThreadPoolExecutor(count) as pool, self._output.task(title, total, form=plain) as advance:
            try:
                for job, answers in zip(jobs, pool.map(run, jobs), strict=True):
                    found.update(answers)
                    advance(job[0])
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._server.stop()
                raise
        return [found[number] for number in range(len(found))]

    def _cut(self, context: list[int], continuation: list[int]) -> tuple[list[int], list[int]]:
        """The end of the context that there is room for."""
        room = self._facts.context - len(continuation)
        if room < 1:
            raise self._too_small(f"a text of {len(continuation)} tokens")
        return context[-room:], continuation

    def _too_small(self, what: str) -> TaskFailed:
        return TaskFailed(
            f"the task wants {what}, and the context of {self._facts.model!r} has {self._facts.context}: "
            "start it with a larger --ctx-size"
        )

    def _special(self, text: str) -> int:
        """The token of that name."""
        tokens = self._server.tokenize(text, False)
        if len(tokens) != 1:
            raise TaskFailed(
                f"{self._facts.model!r} has no single token for {text!r}: it cannot be scored as a text model"
            )
        return tokens[0]
