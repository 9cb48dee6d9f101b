"""Arithmetic on small numbers: questions in digits and words, answers always as an equation in digits.

Addition and subtraction run over 0..99, multiplication and division over the table of ten. Some pairs for addition and
subtraction are reserved: they never occur in training, so the evaluation asks what the model has computed rather than
learnt by heart.
"""

import random
from collections.abc import Sequence

from mkllm.builder.demo import topics

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
PHRASES = topics.read("arithmetic")
TOO_LARGE = "That is too hard for me. I can add and subtract numbers up to 99 and multiply up to 10 times 10."


def reserved(a: int, b: int) -> bool:
    """True for the pairs of addition and subtraction that training never sees."""
    return a > 9 and b > 9 and (7 * a + 3 * b) % 17 == 0


def in_words(number: int) -> str:
    """A number up to 100 in English words."""
    if number == 100:
        return "one hundred"
    if number < 20:
        return ONES[number]
    ten, one = divmod(number, 10)
    return TENS[ten] + (f"-{ONES[one]}" if one else "")


def solve(a: int, sign: str, b: int) -> str:
    """The answer that the model is to give."""
    value = {"+": a + b, "-": a - b, "x": a * b, "/": a // max(b, 1)}[sign]
    return f"{a} {sign} {b} = {value}."


def operands(rng: random.Random) -> tuple[int, str, int]:
    """Numbers that the model is meant to handle; sums of two numbers below 100 make the larger part."""
    sign = rng.choices("+-x/", (5, 5, 3, 1))[0]
    if sign in "x/":
        a, b = rng.randint(0 if sign == "x" else 1, 10), rng.randint(0 if sign == "x" else 1, 10)
        return (a, sign, b) if sign == "x" else (a * b, sign, b)
    top = rng.choice((9, 20, 99, 99, 99))
    while True:
        a, b = rng.randint(0, top), rng.randint(0, top)
        if sign == "-" and a < b:
            a, b = b, a
        if not reserved(a, b) and not reserved(b, a):
            return a, sign, b


def question(rng: random.Random) -> tuple[str, str]:
    """A question and its answer."""
    if rng.random() < 0.05:
        return large(rng), TOO_LARGE
    a, sign, b = operands(rng)
    words = rng.random() < 0.3
    left, right = (in_words(a), in_words(b)) if words else (str(a), str(b))
    if words and rng.random() < 0.3:
        left, right = left.replace("-", " "), right.replace("-", " ")
    if rng.random() < 0.22:
        return rng.choice(PHRASES["special"][sign]).format(a=left, b=right), solve(a, sign, b)
    mark = pick(PHRASES["signs"][sign], words, rng)
    tight = mark in "+-*/x:" and not words and rng.random() < 0.35
    asked = f"{left}{mark}{right}" if tight else f"{left} {mark} {right}"
    return rng.choice(PHRASES["questions"]).format(q=asked), solve(a, sign, b)


def pick(signs: Sequence[str], words: bool, rng: random.Random) -> str:
    """A sign; number words go with words."""
    return rng.choice([s for s in signs if len(s) > 1] if words else signs)


def large(rng: random.Random) -> str:
    """A question beyond the range of the model."""
    a, b = rng.randint(200, 99999), rng.randint(100, 99999)
    sign = rng.choice(["+", "-", "x", "*", "/", "plus", "minus", "times", "divided by"])
    template: str = rng.choice(PHRASES["too_hard"])
    return template.format(a=a, b=b, c=rng.randint(3, 99), d=rng.randint(3, 99), s=sign)
