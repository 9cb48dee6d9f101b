"""A model that takes pictures: from a folder as transformers keeps it to answers about pictures, as it has them.

`nox -s convert` runs this: it takes the converter's environment, which has transformers.
"""

import base64
import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import checkpoints
import pictures
import pytest
import sounds
from converting import LONG, Mkllm, transformers
from converting import run as run
from predictions import ask, divergence, predicted

from mkllm.builder import cache
from mkllm.builder.convert.checkpoint import checkpoint, in_folder
from mkllm.builder.convert.environment import environment
from mkllm.builder.convert.projector import architectures, converted_projector
from mkllm.builder.progress import Output
from mkllm.runtime.artifact.reader import open_artifact

WORDS = "hello there"
# Log-probabilities of the token after a picture and those given, by transformers in 32 bits.
REFERENCE = """
import json, sys, torch, transformers
model = transformers.Gemma3ForConditionalGeneration.from_pretrained(sys.argv[1], dtype=torch.float32)
side, shown, before, after, soft = json.loads(sys.argv[2])
count, found = model.config.mm_tokens_per_image, []
for picture in shown:
    pixels = torch.tensor(list(bytes.fromhex(picture)), dtype=torch.float32).reshape(side, side, 3)
    ids = torch.tensor([before + [soft] * count + after])
    with torch.no_grad():
        scores = model(
            input_ids=ids,
            pixel_values=((pixels / 255 - 0.5) / 0.5).permute(2, 0, 1)[None],
            token_type_ids=(ids == soft).long(),
            attention_mask=torch.ones_like(ids),
        ).logits[0, -1]
    found.append(torch.log_softmax(scores, -1).tolist())
print(json.dumps(found))
"""
LIST = "import json; from conversion import MMPROJ_MODEL_MAP; print(json.dumps(sorted(MMPROJ_MODEL_MAP)))"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures.write(tmp_path_factory.mktemp("models") / "eyes")


@pytest.fixture(scope="module")
def artifact(run: Mkllm, folder: Path) -> Path:
    path = folder.parent / "eyes.out"
    done = run("build", folder, "-o", path)
    assert done.returncode == 0, done.stderr
    assert "it takes pictures, by 'the projector of " in done.stderr
    return path


def props(url: str) -> Any:
    with urllib.request.urlopen(url + "/props", timeout=60) as answer:
        return json.load(answer)


def predicted_after(url: str, picture: bytes) -> dict[int, float]:
    """Log-probabilities of what follows a picture and WORDS, by the token's number."""
    prompt = {
        "prompt_string": props(url)["media_marker"] + WORDS,
        "multimodal_data": [base64.b64encode(pictures.png(picture)).decode()],
    }
    return predicted(url, prompt, len(pictures.PIECES), pictures.number("a"))


def described(url: str, picture: bytes) -> str:
    """What the model says of a picture in a chat."""
    data = "data:image/png;base64," + base64.b64encode(pictures.png(picture)).decode()
    parts = [{"type": "image_url", "image_url": {"url": data}}, {"type": "text", "text": WORDS}]
    messages = [{"role": "user", "content": parts}]
    answer = ask(url, "/v1/chat/completions", messages=messages, max_tokens=12, temperature=0, seed=1)
    return str(answer["choices"][0]["message"]["content"])


def test_predictions_are_those_of_transformers(folder: Path, artifact: Path, serve: Any) -> None:
    shown = [pictures.pixels(seed) for seed in (1, 2)]
    count = len(pictures.PIECES)
    with serve(artifact) as server:
        found = [predicted_after(server.url, picture) for picture in shown]
        words = ask(server.url, "/tokenize", content=WORDS, add_special=False)["tokens"]
    before, after = [1, pictures.number(pictures.BEGIN)], [pictures.number(pictures.END), *words]
    values = [pictures.SIZE, [picture.hex() for picture in shown], before, after, pictures.number(pictures.SOFT)]
    reference = transformers(environment(Output(True)), REFERENCE, folder, values)
    for wanted, one, other in zip(reference, found, reversed(found), strict=True):
        assert len(wanted) == len(one) == count
        assert divergence(wanted, one) < 1e-5 < 1e-4 < divergence(wanted, other)


def test_it_is_served_and_asked_from_the_command_line(artifact: Path, serve: Any, tmp_path: Path) -> None:
    shown = [pictures.pixels(seed) for seed in (1, 2)]
    with serve(artifact) as server:
        kinds = props(server.url)["modalities"]
        assert kinds["vision"] is True and kinds["audio"] is False
        told = [described(server.url, picture) for picture in shown]
        assert told[0] != told[1]
        with pytest.raises(urllib.error.HTTPError, match="40"):
            described(server.url, pictures.pixels(1, 0))  # no picture
        opened = {Path(file.path).name for file in server.engine.open_files()}
        assert not any("mmproj" in name for name in opened)  # nothing was written for it to be read
    for picture, wanted in zip(shown, told, strict=True):
        (tmp_path / "x.png").write_bytes(pictures.png(picture))
        words = [artifact, "-p", WORDS, "--image", tmp_path / "x.png", "-n", "12", "--temp", "0", "--seed", "1"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=LONG, stdin=subprocess.DEVNULL)
        assert done.returncode == 0 and done.stdout.removesuffix("\n") == wanted.removesuffix("\n"), done.stderr
    words = [artifact, "-p", WORDS, "--audio", tmp_path / "x.png"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG, stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and "takes no sound but pictures" in done.stderr


def test_as_two_files_it_answers_the_same(run: Mkllm, folder: Path, artifact: Path, serve: Any, tmp_path: Path) -> None:
    """Extracted and put together again; with the weights beside; and with the projector given at launch."""
    for member in ("model.gguf", "mmproj.gguf"):
        assert run("extract", artifact, member, "-o", tmp_path / member).returncode == 0
    made = {"found": (), "none": ("--mmproj", "none"), "beside": ("--split", "always")}
    for name, words in made.items():
        done = run("build", tmp_path / "model.gguf", *words, "-o", tmp_path / name)
        assert done.returncode == 0, done.stderr
    picture = pictures.pixels(3)
    with serve(artifact) as server:
        wanted = described(server.url, picture)
    for name, words in (("found", ()), ("beside", ()), ("none", ("--", "--mmproj", str(tmp_path / "mmproj.gguf")))):
        with serve(tmp_path / name, *words) as server:
            assert described(server.url, picture) == wanted, name
    with serve(tmp_path / "none") as server:
        assert props(server.url)["modalities"]["vision"] is False
    with serve(tmp_path / "found", "--", "--no-mmproj") as server:
        assert props(server.url)["modalities"]["vision"] is False
    recipe = run("inspect", "--recipe", tmp_path / "found").stdout
    assert '\nmmproj = "mmproj.gguf"\n' in recipe
    (tmp_path / "mkllm.toml").write_text(recipe.replace('output = "found"', 'output = "again"'))
    assert run("build", "-f", tmp_path / "mkllm.toml").returncode == 0
    assert (tmp_path / "again").read_bytes() == (tmp_path / "found").read_bytes()


def heard(url: str, sound: bytes) -> list[float]:
    """Log-probabilities of the likeliest first words of an answer to a sound, in order."""
    data = {"data": base64.b64encode(sound).decode(), "format": "wav"}
    parts = [{"type": "input_audio", "input_audio": data}, {"type": "text", "text": WORDS}]
    messages = [{"role": "user", "content": parts}]
    asked: dict[str, object] = {"max_tokens": 1, "logprobs": True, "top_logprobs": 20, "cache_prompt": False}
    asked["logit_bias"] = [[pictures.number("a"), 1000.0]]  # half a letter would not be told
    (first,) = ask(url, "/v1/chat/completions", messages=messages, **asked)["choices"][0]["logprobs"]["content"]
    return [float(one["logprob"]) for one in first["top_logprobs"]]


def test_sound(run: Mkllm, serve: Any, tmp_path: Path) -> None:
    """A model hears by a projector that was converted from another folder; as well by the file at launch."""
    model = checkpoints.write(tmp_path / "base")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    ears = checkpoint(in_folder(sounds.write(tmp_path / "ears", checkpoints.Shape().width)), "ears", "ears")
    projector = converted_projector(ears, {}, Output(True))
    assert projector
    done = run("build", model, "--mmproj", projector, "-o", tmp_path / "hears")
    assert done.returncode == 0, done.stderr
    assert run("build", model, "-o", tmp_path / "deaf").returncode == 0
    shown = [sounds.tone(hertz) for hertz in (300, 2000)]
    with serve(tmp_path / "hears") as server:
        kinds = props(server.url)["modalities"]
        assert kinds["audio"] is True and kinds["vision"] is False
        found = [heard(server.url, sound) for sound in shown]
    with serve(tmp_path / "deaf", "--", "--mmproj", str(projector)) as server:
        assert [heard(server.url, sound) for sound in shown] == found
    assert max(abs(a - b) for a, b in zip(*found, strict=True)) > 1e-3
    (tmp_path / "tone.wav").write_bytes(shown[0])
    words = [tmp_path / "hears", "-p", WORDS, "--audio", tmp_path / "tone.wav", "-n", "4"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr


def test_what_does_not_fit(run: Mkllm, folder: Path, artifact: Path, tmp_path: Path) -> None:
    other = pictures.write(tmp_path / "other", 64)
    assert run("build", other, "-o", tmp_path / "other.out").returncode == 0
    assert run("extract", tmp_path / "other.out", "mmproj.gguf", "-o", tmp_path / "wrong.gguf").returncode == 0
    done = run("build", folder, "--mmproj", tmp_path / "wrong.gguf", "-o", tmp_path / "out")
    assert done.returncode == 56 and "makes 64 numbers of each position, 'eyes' takes 32" in done.stderr
    whole = (tmp_path / "wrong.gguf").read_bytes()
    (tmp_path / "short.gguf").write_bytes(whole[:-1000])
    done = run("build", folder, "--mmproj", tmp_path / "short.gguf", "-o", tmp_path / "out")
    assert done.returncode == 56 and "damaged or truncated" in done.stderr
    (tmp_path / "odd.gguf").write_bytes(whole.replace(b"gemma3", b"gemmaX"))
    done = run("build", folder, "--mmproj", tmp_path / "odd.gguf", "-o", tmp_path / "out")
    assert done.returncode == 56 and "the engine cannot use" in done.stderr and "unknown projector type" in done.stderr
    assert not (tmp_path / "out").exists()
    with open_artifact(artifact) as opened:
        projector = opened.manifest.projector
    assert projector and projector.vision and not projector.audio and projector.memory > 90_000


def test_the_list_of_architectures_is_the_converter_s() -> None:
    made = environment(Output(True))
    words = [made.python, "-s", "-c", LIST]
    done = subprocess.run(words, capture_output=True, text=True, cwd=made.source, timeout=LONG)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == architectures()
    assert cache.folder("convert") in made.path.parents
