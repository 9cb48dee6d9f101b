"""Tokenizers as tokenizer.json describes them, by the steps that builder/convert/splitting.toml names."""

from typing import Any

from mkllm.builder.convert.recognise import Rules, table

PLAIN = {"dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None}
# In places that each rule splits in its own way: what is merged, and so which tokens there are, shows where.
TEXTS = [
    "Hello, world! How are you today?",
    "It's John's; they've said we'll see, I'm sure you'd agree, won't you're?",
    "IT'S LOUD: THEY'VE SAID I'M HERE, WE'LL SEE, YOU'D",
    "  two leading spaces,   three inside,    four at the end    ",
    "one\ntwo\n\nthree\n\n\nfour\r\nfive\r\n\r\nsix",
    "\ttab\t\ttabs \t mixed \n \t \n end\n",
    "a 1 22 333 4444 55555 666666 7777777 and 1,234,567.89",
    "x1y22z333w4444 v1.2.3 0xFF 1e-10 3.14159",
    "Price: $5.99, €20, £3 and ¥400 (+5% / -3%)",
    "def main(args):\n    return [x**2 for x in range(10) if x % 2 == 0]\n",
    "if (a != b && c <= d || !e) { f->g(&h, i[3]); } // done",
    '#include <stdio.h>\nint main(void) { printf("%d\\n", 42); }',
    '{"key": [1, 2.5, null, true], "other": {"a": "b"}}',
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case",
    "https://example.org/path/to?query=1&other=two#part mail@example.org",
    "......!!!!??? ---- ==== ~~~~ ```` ''' \"\"\" <<>> ||| ^^^",
    "中文字符和标点，没有空格。还有数字123和英文words混在一起！",
    "日本語のテキスト、ひらがなとカタカナ。「引用」も含む…",
    "한국어 문장입니다. 띄어쓰기가 있고, 숫자 2024도 있습니다.",
    "Привет, мир! Это русский текст с числами 42 и словами.",
    "Ελληνικά γράμματα και αριθμοί 7, 8, 9.",
    "مرحبا بالعالم، كيف حالك؟ هذا نص عربي.",
    "Crème brûlée, naïve façade, Zürich, El Niño, Ærø, Łódź",
    "emoji 😀😁 🚀 and ✅ done 🦙🦙 mixed😶text",
    "½ cup, ² squared, Ⅷ chapter, ① first, ٣ three",
    "math: ∑ x² ≤ ∞ → α + β ≠ γ × δ ÷ ε ± ζ",
    "“Quoted” ‘single’ — dash – en… ellipsis • bullet",
    "a",
    " ",
    "The end.",
]


def split(pattern: str, behavior: str = "Isolated", invert: bool = False) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def in_bytes(words: bool = False, prefix: bool = False) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": words}


STEPS = {
    "bytes": in_bytes(),
    "words": in_bytes(True),
    "digits": {"type": "Digits", "individual_digits": False},
    "each digit": {"type": "Digits", "individual_digits": True},
    "punctuation": {"type": "Punctuation", "behavior": "Contiguous"},
}


def pre_tokenizer(rules: Rules) -> dict[str, Any]:
    """As published files have it."""
    patterns = {name: pattern for pattern, name in reversed(table()[1].items())}
    steps = [STEPS.get(step) or split(patterns[step.removeprefix("split ")]) for step in rules.steps]
    return steps[0] if len(steps) == 1 else sequence(*steps)


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def tokenizer(
    steps: dict[str, Any] | None,
    vocabulary: dict[str, int] | None = None,
    merges: list[list[str]] | None = None,
    normalizer: dict[str, Any] | None = None,
    **model: object,
) -> dict[str, Any]:
    """tokenizer.json of a vocabulary in bytes."""
    plain = {"type": "BPE", **PLAIN, "vocab": vocabulary or {}, "merges": merges or [], **model}
    others = dict.fromkeys(("truncation", "padding", "post_processor", "decoder"))
    return {
        "version": "1.0", "added_tokens": [], "normalizer": normalizer, "pre_tokenizer": steps, "model": plain, **others
    }  # fmt: skip
