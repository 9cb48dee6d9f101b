"""Trains the demo model on the CPU: `python -m mkllm.builder.demo.train --out DIR`.

Writes `tokenizer.json` and `model.pt` into DIR; `export` makes the GGUF of them. Matrices are trained with Muon,
embeddings and norms with AdamW; the learning rate warms up and then falls along a cosine.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from mkllm.builder.demo import tokenizer as bpe
from mkllm.builder.demo.batches import Batch, batches
from mkllm.builder.demo.corpus import conversations
from mkllm.builder.demo.messages import rendered
from mkllm.builder.demo.model import Llama, Shape
from mkllm.builder.demo.muon import Muon

SEED = 1
TOKENIZER_CONVERSATIONS = 10_000
ROUND = 4_000
WARM_UP = 100


def train_tokenizer(vocabulary: int) -> Tokenizer:
    return bpe.train((rendered(m) for m in conversations(SEED, TOKENIZER_CONVERSATIONS)), vocabulary)


def optimizers(model: Llama, rate: float) -> tuple[Muon, torch.optim.AdamW]:
    inner = {n: p for n, p in model.named_parameters() if p.ndim == 2 and not n.startswith("token_embd")}
    outer = [p for n, p in model.named_parameters() if n not in inner]
    return Muon(inner.values(), rate), torch.optim.AdamW(outer, lr=rate, weight_decay=0.0, betas=(0.9, 0.95))


def rate_at(step: int, share: float) -> float:
    """Share of the learning rate: a warm-up in steps, then a cosine over the share of the work that is done."""
    return min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train; `seed` also chooses the conversations."""

    conversations: int
    rate: float
    batch: int
    seed: int


def stream(tokenizer: Tokenizer, plan: Plan, context: int) -> Iterator[Batch]:
    """Batches of all conversations, a round at a time, so that memory stays small."""
    for number, begin in enumerate(range(0, plan.conversations, ROUND), plan.seed + 1):
        yield from batches(tokenizer, number, min(ROUND, plan.conversations - begin), context, plan.batch)


def train_model(tokenizer: Tokenizer, model: Llama, plan: Plan, file: Path) -> None:
    """Shows the model each conversation of the plan once; saves it into `file` now and then, and in the end."""
    count, rate = plan.conversations, plan.rate
    muon, adam = optimizers(model, rate)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters / 1e6:.2f} M parameters, {count} conversations", flush=True)
    begin, seen, smooth = time.monotonic(), 0, 0.0
    for step, batch in enumerate(stream(tokenizer, plan, model.shape.context)):
        muon.rate = adam.param_groups[0]["lr"] = rate * rate_at(step, seen / count)
        loss = F.cross_entropy(model(batch.tokens, batch.keep), batch.targets)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        muon.step()
        adam.step()
        adam.zero_grad()
        seen += len(batch.tokens)
        smooth = loss.item() if step == 0 else 0.95 * smooth + 0.05 * loss.item()
        if step % 100 == 0:
            passed = time.monotonic() - begin
            left = passed / seen * (count - seen)
            print(f"step {step} seen {seen} loss {smooth:.4f} {passed:.0f} s, {left:.0f} s left", flush=True)
            save(model, file)
    save(model, file)


def save(model: Llama, file: Path) -> None:
    torch.save({"shape": json.dumps(asdict(model.shape)), "weights": model.state_dict()}, file)


def load(folder: Path) -> tuple[Tokenizer, Llama]:
    """What an earlier training left in the folder."""
    saved = torch.load(folder / "model.pt", weights_only=True)
    model = Llama(Shape(**json.loads(saved["shape"])))
    model.load_state_dict(saved["weights"])
    return bpe.load(folder / "tokenizer.json"), model


def new() -> tuple[Tokenizer, Llama]:
    tokenizer = train_tokenizer(bpe.VOCABULARY)
    torch.manual_seed(SEED)
    return tokenizer, Llama(Shape(vocabulary=tokenizer.get_vocab_size()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="go on from the model in this folder, with another --seed")
    parser.add_argument("--conversations", type=int, default=240_000)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--batch", type=int, default=2_000, help="tokens in a batch")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer, model = load(options.start) if options.start else new()
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(options.out / "tokenizer.json"))
    plan = Plan(options.conversations, options.rate, options.batch, options.seed)
    train_model(tokenizer, model, plan, options.out / "model.pt")


if __name__ == "__main__":
    main()
