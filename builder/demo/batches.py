"""Conversations as batches of tokens, with the positions that the loss counts.

Long answers in conversations of one question are mostly cut: which answer it is shows in its first tokens, and the rest
is soon known by heart.

Conversations of like length share a batch, so that little is padded; every conversation starts at position 0, as it
does when the model is used. The loss counts what the assistant says and its end token, nothing else.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from mkllm.builder.demo.corpus import conversations
from mkllm.builder.demo.messages import END, START, rendered
from mkllm.builder.demo.tokenizer import number

CUT_SHARE = 0.85
CUT = 18
TURNS_TO_CUT = 3


@dataclass(frozen=True)
class Batch:
    tokens: Tensor
    targets: Tensor
    keep: Tensor


def answers(ids: list[int], opening: list[int], end: int) -> list[bool]:
    """Marks the tokens of the assistant's turns, end token included."""
    marks = [False] * len(ids)
    at = 0
    while at < len(ids):
        if ids[at : at + len(opening)] != opening:
            at += 1
            continue
        at += len(opening)
        while at < len(ids):
            marks[at] = True
            at += 1
            if ids[at - 1] == end:
                break
    return marks


def encoded(tokenizer: Tokenizer, seed: int, count: int, context: int) -> Iterator[tuple[list[int], list[bool]]]:
    """Token ids and marks of `count` conversations, cut at the context."""
    opening = tokenizer.encode(f"{START}assistant\n").ids
    end = number(tokenizer, END)
    rng = random.Random(seed)
    texts = [rendered(messages).rstrip("\n") for messages in conversations(seed, count)]
    for encoding in tokenizer.encode_batch(texts):
        ids = encoding.ids[: context + 1]
        marks = answers(ids, opening, end)
        if sum(ids.count(token) for token in opening[:1]) <= TURNS_TO_CUT and rng.random() < CUT_SHARE:
            stop = marks.index(True) + CUT
            ids, marks = ids[:stop], marks[:stop]
        yield ids, marks


def batches(tokenizer: Tokenizer, seed: int, count: int, context: int, size: int) -> list[Batch]:
    """All batches of `count` conversations in random order, each of about `size` tokens."""
    rows = sorted(encoded(tokenizer, seed, count, context), key=lambda row: len(row[0]))
    groups: list[list[tuple[list[int], list[bool]]]] = [[]]
    for row in rows:
        if groups[-1] and (len(groups[-1]) + 1) * len(row[0]) > size:
            groups.append([])
        groups[-1].append(row)
    random.Random(seed).shuffle(groups)
    return [padded(group) for group in groups]


def padded(rows: list[tuple[list[int], list[bool]]]) -> Batch:
    longest = max(len(ids) for ids, _ in rows)
    tokens = torch.zeros(len(rows), longest, dtype=torch.long)
    marks = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, (ids, marked) in enumerate(rows):
        tokens[i, : len(ids)] = torch.tensor(ids)
        marks[i, : len(ids)] = torch.tensor(marked)
    keep = marks[:, 1:]
    return Batch(tokens[:, :-1], tokens[:, 1:][keep], keep)
