"""How people really type: casing, punctuation, typing errors, words of politeness, words left out.

Works on a finished question and knows nothing of its meaning. Words that are not plain letters (file names, options,
numbers) are never damaged.
"""

import random
import string
from collections.abc import Mapping, Sequence

from mkllm.builder.demo import topics

TYPING = topics.read("typing")
SMALL = frozenset(TYPING["small"])
NUMBER_WORDS = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety".split()
)
ONSETS = (
    "",
    *"b bl br c ch cl cr d dr f fl g gr h j k l m n p pl pr qu r s sc sh sl sp st str t th tr v w wh y z".split(),
)
CODAS = ("", "", "", *"b ck d f ft g l ll m mp n nd ng nt p r rd rt s sh ss st t tch th x".split())


def vary(text: str, rng: random.Random) -> str:
    """The question as somebody in a hurry, a polite person or a careful typist would write it."""
    if rng.random() < 0.3:
        text = contract(text, rng)
    words = text.split()
    if rng.random() < 0.12:
        words = drop_small_word(words, rng)
    if rng.random() < 0.14:
        words = mistype(words, rng)
    if rng.random() < 0.12:
        words = [rng.choice(TYPING["before"]), *words]
    if rng.random() < 0.08:
        words = [*words, rng.choice(TYPING["after"])]
    return punctuate(case(" ".join(words), rng), rng)


def reword(text: str, synonyms: Mapping[str, Sequence[str]], rng: random.Random) -> str:
    """One or two words replaced by others of like meaning."""
    words = text.split()
    names = [i > 0 and not words[i - 1].isalpha() or words[i - 1] in ("mkllm", "kit") for i in range(len(words))]
    known = [i for i, word in enumerate(words) if word in synonyms and not names[i]]
    for at in rng.sample(known, min(len(known), rng.choice((1, 1, 2)))):
        words[at] = rng.choice(synonyms[words[at]])
    return " ".join(words)


def with_noise(text: str, noise: Sequence[str], rng: random.Random) -> str:
    """The text with one to three common words slipped in anywhere."""
    words = text.split()
    for _ in range(rng.choice((1, 1, 2, 3))):
        words.insert(rng.randint(0, len(words)), rng.choice(noise))
    return " ".join(words)


def with_unknown(text: str, rng: random.Random) -> str:
    """The text with one of its plain words become a word that nobody knows."""
    words = text.split()
    plain = [i for i, word in enumerate(words) if word.isalpha() and word not in NUMBER_WORDS]
    if plain:
        words[rng.choice(plain)] = unknown(rng)
    return " ".join(words)


def unknown(rng: random.Random) -> str:
    """A word of one to three syllables that can be spoken and means nothing."""
    syllables = (rng.choice(ONSETS) + rng.choice("aeiou") + rng.choice(CODAS) for _ in range(rng.randint(1, 3)))
    return "".join(syllables) + rng.choice(("", "", "s", "ed", "ing", "er", "ly"))


def sentence(text: str) -> str:
    """The text as a sentence of its own: a question that another sentence follows."""
    return text if text[-1] in "?!." else f"{text}?"


def contract(text: str, rng: random.Random) -> str:
    for long, short in TYPING["short"].items():
        if f" {long} " in f" {text} ":
            short = short.replace("'", "") if rng.random() < 0.25 else short
            return f" {text} ".replace(f" {long} ", f" {short} ", 1).strip()
    return text


def drop_small_word(words: list[str], rng: random.Random) -> list[str]:
    small = [i for i, word in enumerate(words) if word in SMALL]
    if len(words) < 4 or not small:
        return words
    gone = rng.choice(small)
    return words[:gone] + words[gone + 1 :]


def mistype(words: list[str], rng: random.Random) -> list[str]:
    """One slip of the fingers in one word of letters only."""
    plain = [i for i, w in enumerate(words) if w.isalpha() and w.isascii() and len(w) > 3 and w not in NUMBER_WORDS]
    if not plain:
        return words
    at = rng.choice(plain)
    return [*words[:at], slip(words[at], rng), *words[at + 1 :]]


def slip(word: str, rng: random.Random) -> str:
    i = rng.randrange(1, len(word) - 1)
    match rng.randrange(4):
        case 0:
            return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
        case 1:
            return word[:i] + word[i + 1 :]
        case 2:
            return word[:i] + word[i] + word[i:]
        case _:
            return word[:i] + rng.choice(string.ascii_lowercase) + word[i + 1 :]


def case(text: str, rng: random.Random) -> str:
    roll = rng.random()
    if roll < 0.40:
        return text
    text = " ".join("I" + w[1:] if w == "i" or w.startswith("i'") else w for w in text.split(" "))
    if roll < 0.92:
        return text[:1].upper() + text[1:]
    if roll < 0.95:
        return text.upper()
    return text.title() if roll < 0.97 else text


def punctuate(text: str, rng: random.Random) -> str:
    if text[-1] in "?!.":
        return text
    roll = rng.random()
    marks = (0.45, "?"), (0.80, ""), (0.90, "."), (0.94, "??"), (0.97, "!"), (1.0, " ?")
    return text + next(mark for limit, mark in marks if roll < limit)
