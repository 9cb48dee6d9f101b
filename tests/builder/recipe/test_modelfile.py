"""What the instructions of a Modelfile come to, and how what cannot be done is refused."""

from pathlib import Path
from typing import Any

import pytest

from mkllm.builder.errors import UnusableModel, UnusableRecipe
from mkllm.builder.recipe.modelfile import Several, model, read
from mkllm.builder.recipe.recipe import LONGEST, At, Recipe


def reading(folder: Path, text: str) -> Recipe:
    path = folder / "Modelfile"
    path.write_text(text)
    return read(path)


def test_every_instruction(tmp_path: Path) -> None:
    found = reading(
        tmp_path,
        'FROM ./m.gguf\nSYSTEM """@Be\nbrief."""\nMESSAGE user 1+1?\nmessage Assistant "2"\nLICENSE MIT\n'
        "LICENSE @other\nREQUIRES 0.14.0\nTEMPLATE {{ .Prompt }}\nPARAMETER temperature 0.5\n",
    )
    assert str(found.values.pop("chat_template")).startswith("{%- set ns = namespace(")
    assert found.values == {
        "model": str(tmp_path / "m.gguf"),
        "system": "@@Be\nbrief.",
        "message": [["user", "1+1?"], ["assistant", "2"]],
        "licences": ["MIT", "@@other"],
        "temperature": 0.5,
    }
    assert found.places["system"] == At(2, 1) and found.places["temperature"] == At(10, 1)
    assert found.marks is None and found.notes == ()


def test_the_system_prompt_may_be_a_message(tmp_path: Path) -> None:
    assert reading(tmp_path, "FROM demo\nMESSAGE system Be.").values == {"model": "demo", "system": "Be."}


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("num_ctx 4096", "ctx_size", 4096),
        ("top_k 40", "top_k", 40),
        ("TOP_P 0.9", "top_p", 0.9),
        ("min_p 0.05", "min_p", 0.05),
        ("typical_p 1", "typical_p", 1.0),
        ("seed 42", "seed", 42),
        ("num_predict -2", "n_predict", -1),
        ("repeat_penalty 1.1", "repeat_penalty", 1.1),
        ("repeat_last_n -1", "repeat_last_n", -1),
        ("presence_penalty 0.5", "presence_penalty", 0.5),
        ("frequency_penalty 0.5", "frequency_penalty", 0.5),
        ("mirostat 2", "mirostat", 2),
        ("mirostat_eta 0.1", "mirostat_lr", 0.1),
        ("mirostat_tau 5.0", "mirostat_ent", 5.0),
        ('stop "AI assistant:"', "engine_arg", ["--reverse-prompt", "AI assistant:"]),
        ("num_keep 24", "engine_arg", ["--keep", "24"]),
        ("num_thread 8", "engine_arg", ["--threads", "8"]),
        ("num_thread 0", "engine_arg", []),
        ("num_batch 256", "engine_arg", ["--ubatch-size", "256"]),
        ("num_gpu 20", "engine_arg", ["--n-gpu-layers", "20"]),
        ("num_gpu -1", "engine_arg", []),
        ("main_gpu 1", "engine_arg", ["--main-gpu", "1"]),
        ("use_mmap false", "engine_arg", ["--load-mode", "none"]),
        ("use_mmap true", "engine_arg", []),
        ("use_mlock true", "engine_arg", ["--load-mode", "mlock"]),
        ("numa true", "engine_arg", ["--numa", "distribute"]),
        ("tfs_z 1", None, None),
        ("rope_frequency_base 10000.0", "engine_arg", ["--rope-freq-base", "10000.0"]),
        ("rope_frequency_scale 0.25", "engine_arg", ["--rope-freq-scale", "0.25"]),
        ("stop --api-key", "engine_arg", ["--reverse-prompt", "--api-key"]),
    ],
)
def test_parameters(tmp_path: Path, line: str, name: str | None, value: object) -> None:
    found = reading(tmp_path, f"FROM demo\nPARAMETER {line}\n")
    assert found.values == {"model": "demo"} | ({name: value} if name else {}) and found.notes == ()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("PARAMETER tfs_z 0.5", "PARAMETER tfs_z has no effect: llama.cpp has nothing of the kind"),
        ("PARAMETER penalize_newline false", "PARAMETER penalize_newline has no effect: llama.cpp has nothing"),
        ("PARAMETER num_gqa 8", "PARAMETER num_gqa has no effect: it is left out, since llama.cpp decides that itself"),
        ("PARAMETER draft_num_predict 4", "has no effect: a draft model is no part of a file"),
        ("RENDERER qwen3", "RENDERER names a part of Ollama's, which is left out"),
    ],
)
def test_what_has_no_counterpart_is_said(tmp_path: Path, line: str, why: str) -> None:
    (note,) = reading(tmp_path, f"FROM demo\n  {line}\n").notes
    assert note.startswith(f"{tmp_path / 'Modelfile'}:2:3: ") and why in note


@pytest.mark.parametrize(
    ("text", "place", "sentence"),
    [
        ("SYSTEM x", "", "it has no FROM, which names the model: add one"),
        ("FROM demo\nFRM x", "2:1", "there is no instruction 'FRM': did you mean 'FROM'?"),
        ("FROM demo\nXYZ x", "2:1", "there is no instruction 'XYZ': known are FROM, PARAMETER"),
        (
            "FROM demo\n PARAMETER temprature 1",
            "2:2",
            "there is no parameter 'temprature': did you mean 'temperature'?",
        ),
        ("FROM demo\nPARAMETER num_ctx many", "2:1", "PARAMETER num_ctx is 'many', and has to be a whole number"),
        (
            "FROM demo\nPARAMETER num_keep -3",
            "2:1",
            "PARAMETER num_keep is '-3', and has to be a whole number from -1 on",
        ),
        ("FROM demo\nPARAMETER rope_frequency_base 0", "2:1", "is '0', and has to be a number above 0"),
        ("FROM demo\nPARAMETER rope_frequency_scale nan", "2:1", "is 'nan', and has to be a number above 0"),
        ("FROM de\0mo", "1:8", "a character 0 is no part of a text or of a file's name: leave it out"),
        ("FROM demo\nTEMPLATE " + "{{ if .System }}" * 3000 + "{{ end }}" * 3000, "2:1", "TEMPLATE: it is nested too"),
        ("FROM demo\nTEMPLATE {{ " + "(" * 3000 + ".System" + ")" * 3000 + " }}", "2:1", "TEMPLATE: it is nested too"),
        ("FROM demo\nPARAMETER use_mmap perhaps", "2:1", "has to be true or false"),
        ("FROM demo\nMESSAGE tool x", "2:1", "'tool' is no role of a MESSAGE: known are system, user, assistant"),
        ("FROM demo\nFROM other", "2:1", "a second FROM 'other': one file has one model"),
        ('FROM demo\nTEMPLATE """x\n{{ .Prompt }}{{ .Wrong }}"""', "3:17", "TEMPLATE: the template is given no .Wrong"),
        ('FROM demo\nTEMPLATE "{{ if }}"', "2:11", "TEMPLATE: 'if' has no value"),
        ('FROM demo\nSYSTEM """x', "2:8", "the quotes that begin here do not end"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, place: str, sentence: str) -> None:
    with pytest.raises(UnusableRecipe) as failure:
        reading(tmp_path, text)
    where = f"{tmp_path / 'Modelfile'}{place and ':'}{place}: "
    assert str(failure.value).startswith(where) and sentence in str(failure.value) and failure.value.exit_code == 25


def test_a_projector_may_be_a_second_from(tmp_path: Path, gguf_bytes: Any, small_gguf: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(small_gguf.read_bytes())
    (tmp_path / "eyes.gguf").write_bytes(gguf_bytes({"general.architecture": "clip"}, {"mm.0.weight": ((64, 8), 0)}))
    for text in ("FROM ./m.gguf\nFROM ./eyes.gguf", "FROM ./eyes.gguf\nFROM ./m.gguf"):
        values = reading(tmp_path, text).values
        assert (values["model"], values["projector"]) == (str(tmp_path / "m.gguf"), str(tmp_path / "eyes.gguf"))
    with pytest.raises(UnusableRecipe, match="3:1: a second projector './eyes.gguf': one file has one"):
        reading(tmp_path, "FROM ./m.gguf\nFROM ./eyes.gguf\nFROM ./eyes.gguf")


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "Modelfile"
    path.write_bytes(b"FROM \xff")
    with pytest.raises(UnusableRecipe, match="it is not UTF-8 text"):
        read(path)
    path.write_bytes('\ufeffFROM demo\r\nSYSTEM "a\r\nb"\r\n'.encode("utf-16-le"))
    assert read(path).values == {"model": "demo", "system": "a\nb"}


def test_files_that_are_too_long_or_models(tmp_path: Path) -> None:
    path = tmp_path / "Modelfile"
    path.write_bytes(b"FROM demo\n" + b"#" * LONGEST)
    with pytest.raises(UnusableRecipe, match="is larger than 16 MiB, too long for a recipe: name another file"):
        read(path)
    path.write_bytes(b"GGUF\3\0\0\0")
    with pytest.raises(UnusableRecipe, match="is no recipe but a model: name it without -f"):
        read(path)


def test_a_name_that_is_too_long_for_a_file(tmp_path: Path) -> None:
    assert model("x" * 300, tmp_path) == "x" * 300 and model("./" + "x" * 300, tmp_path) == str(tmp_path / ("x" * 300))


def test_a_star_means_one_model(tmp_path: Path) -> None:
    folder = tmp_path / "a[b]*"
    folder.mkdir()
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab/other.gguf").touch()
    assert model("*.gguf", folder) == str(folder / "*.gguf")
    (folder / "one.gguf").touch()
    assert model("*.gguf", folder) == str(folder / "one.gguf")
    (folder / "two.gguf").touch()
    (folder / "Modelfile").write_text("SYSTEM x\nFROM *.gguf\n")
    with pytest.raises(UnusableRecipe) as failure:
        read(folder / "Modelfile")
    sentence = ":2:1: FROM '*.gguf' means 2 files ('one.gguf', 'two.gguf'): name one of them"
    assert str(failure.value).endswith(sentence)
    (folder / "two.gguf").rename(folder / "one-00001-of-00002.gguf")
    with pytest.raises(Several, match="means 2 files"):
        model("*.gguf", folder)


def test_what_from_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "none"))
    assert model("llama3.2:3b", tmp_path) == "llama3.2:3b"  # a short name of mkllm's, perhaps
    assert model("hf.co/org/repo:Q4_K_M", tmp_path) == "hf:org/repo:Q4_K_M"
    assert model("ollama:x", tmp_path) == "ollama:x" and model("demo", tmp_path) == "demo"
    monkeypatch.setenv("HOME", "/home/me")
    assert model("~/x.gguf", tmp_path) == "/home/me/x.gguf" and model("/x.gguf", tmp_path) == "/x.gguf"
    assert model(".", tmp_path) == str(tmp_path) and model("./x.gguf", tmp_path) == str(tmp_path / "x.gguf")
    for number in (2, 1):
        (tmp_path / f"m-0000{number}-of-00002.gguf").touch()
    assert model("./m-*.gguf", tmp_path) == str(tmp_path / "m-00001-of-00002.gguf")
    parts = "FROM m-00001-of-00002.gguf\nFROM m-00002-of-00002.gguf\n"
    assert reading(tmp_path, parts).values == {"model": str(tmp_path / "m-00001-of-00002.gguf")}


def test_a_name_that_ollamas_store_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mkllm.builder.model import ollama

    monkeypatch.setattr(ollama, "find", lambda text: text)
    assert model("llama3.2", tmp_path) == "ollama:llama3.2"


@pytest.mark.parametrize("layers", ["no JSON", '{"layers": []}'])
def test_a_broken_model_of_ollamas_store_is_not_replaced_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: str
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    place = tmp_path / "manifests/registry.ollama.ai/library/mistral-7b"
    place.mkdir(parents=True)
    (place / "latest").write_text(layers)
    with pytest.raises(UnusableModel):
        model("mistral-7b", tmp_path)
    assert model("mistral-8b", tmp_path) == "mistral-8b"
