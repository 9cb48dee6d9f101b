"""`mkllm build -f` and `mkllm inspect --recipe` as programs: the same bytes come of a recipe again."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mkllm.runtime.artifact.manifest import Manifest
from mkllm.runtime.artifact.reader import open_artifact

from .program import Run, refused

ADAPTER = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
TENSORS = {"blk.0.attn_q.weight.lora_a": ((64, 4), 0), "blk.0.attn_q.weight.lora_b": ((4, 64), 0)}


@pytest.fixture
def adapter(folder: Path, gguf_bytes: Callable[..., bytes]) -> Path:
    path = folder / "tuned.gguf"
    path.write_bytes(gguf_bytes(ADAPTER, TENSORS))
    return path


def works(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def manifest(path: Path) -> Manifest:
    with open_artifact(path) as artifact:
        return artifact.manifest


EVERYTHING = [
    "--name", "my model", "--system", "@@Be 'brief'.\n\tÜ\\\"\x7f", "--chat-template", "{{ '''x''' }}\n{{ y }}",
    "--message", "user", "1+1?", "--message", "assistant", "@@2\r\n", "--ctx-size", "256", "--temperature", "0.25",
    "--top-k", "0", "--min-p", "0.00001", "--repeat-penalty", "1.1", "--typical-p", "1", "--n-predict", "-1",
    "--repeat-last-n", "64", "--presence-penalty", "-1", "--frequency-penalty", "0", "--mirostat", "2",
    "--mirostat-lr", "0.1", "--mirostat-ent", "5", "--seed", "-1", "--top-p", "0.9", "--host", "0.0.0.0",
    "--port", "0", "--engine-arg", "--keep", "--engine-arg", "3", "--license", "@licence.txt", "--license", "two\n",
    "--target", "linux-x86_64", "--for", "generic-2gb", "--split", "never", "--max-file-size", "9MB",
]  # fmt: skip


TUNED = ["--lora", "tuned.gguf", "--lora", "./tuned.gguf"]


@pytest.mark.parametrize("words", [[], EVERYTHING, ["--split", "always"], TUNED])
def test_the_same_bytes_come_of_the_recipe(mkllm: Run, folder: Path, adapter: Path, words: list[str]) -> None:
    (folder / "licence.txt").write_text("Do what you like.\n")
    works(mkllm("build", "model.gguf", "-o", "out", *words))
    told = works(mkllm("inspect", "--recipe", "out"))
    (folder / "again.toml").write_text(told)
    (folder / "again").mkdir()
    works(mkllm("build", "-f", "again.toml", "-o", "again/out"))
    for name in os.listdir(folder / "again"):
        assert (folder / "again" / name).read_bytes() == (folder / name).read_bytes()
    assert works(mkllm("inspect", "--recipe", "again/out")) == told
    assert len(os.listdir(folder / "again")) == (2 if "always" in words else 1)


def test_everything_is_in_the_manifest(mkllm: Run, folder: Path) -> None:
    (folder / "licence.txt").write_text("Do what you like.\n")
    works(mkllm("build", "model.gguf", "-o", "out", *EVERYTHING))
    told = manifest(folder / "out")
    assert told.options == {"split": "never", "max-file-size": 9_000_000}
    assert told.defaults.chat_template == told.chat_template == "{{ '''x''' }}\n{{ y }}"
    assert [(one.role, one.content) for one in told.defaults.messages] == [("user", "1+1?"), ("assistant", "@2\r\n")]
    with open_artifact(folder / "out") as artifact:
        assert artifact.read("licenses/maker/LICENSE-001.txt") == b"Do what you like.\n"
        assert artifact.read("licenses/maker/LICENSE-002.txt") == b"two\n"


def test_the_command_line_comes_before_the_recipe(mkllm: Run, folder: Path) -> None:
    text = 'model = "model.gguf"\noutput = "a"\nctx-size = 100\ntop-k = 3\nmessage = ["user", "x"]\n'
    (folder / "mkllm.toml").write_text(text)
    works(mkllm("build", "-f", "mkllm.toml", "-o", "b", "--ctx-size", "200", "--message", "user", "y"))
    chosen = manifest(folder / "b").defaults
    assert (chosen.context, chosen.sampling, chosen.messages[0].content) == (200, {"top_k": 3}, "y")
    (folder / "other.gguf").write_bytes((folder / "model.gguf").read_bytes())
    works(mkllm("build", "other.gguf", "-f", "mkllm.toml", "-o", "c"))
    assert manifest(folder / "c").provenance.file == "other.gguf" and manifest(folder / "c").defaults.context == 100


MODELFILE = """\
FROM ./model.gguf
PARAMETER num_ctx 128
PARAMETER stop "###"
SYSTEM Be brief.
MESSAGE user 1+1?
MESSAGE assistant 2
LICENSE MIT
TEMPLATE "{{ .System }}[{{ .Prompt }}]{{ .Response }}"
"""


@pytest.mark.parametrize("words", [["-f", "sub/Modelfile"], ["sub/Modelfile"], ["./sub"], ["sub/my.Modelfile"]])
def test_a_modelfile(mkllm: Run, folder: Path, words: list[str]) -> None:
    (folder / "sub").mkdir()
    (folder / "model.gguf").rename(folder / "sub/model.gguf")
    (folder / "sub" / Path(words[-1]).name if "file" in words[-1] else folder / "sub/Modelfile").write_text(MODELFILE)
    works(mkllm("build", *words, "-o", "out"))
    chosen = manifest(folder / "out").defaults
    assert (chosen.system_prompt, chosen.context, chosen.engine_args) == ("Be brief.", 128, ("--reverse-prompt", "###"))
    assert [message.content for message in chosen.messages] == ["1+1?", "2"]
    assert chosen.chat_template and chosen.chat_template.startswith("{%- set ns")
    with open_artifact(folder / "out") as artifact:
        assert artifact.read("licenses/maker/LICENSE-001.txt") == b"MIT"
    (folder / "again.toml").write_text(works(mkllm("inspect", "--recipe", "out")))
    works(mkllm("build", "sub/model.gguf", "-f", "again.toml", "-o", "out2"))
    assert (folder / "out2").read_bytes() == (folder / "out").read_bytes()


def test_an_adapter_of_a_modelfile(mkllm: Run, folder: Path, adapter: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub/Modelfile").write_text("FROM ../model.gguf\nADAPTER ../tuned.gguf\n")
    works(mkllm("build", "sub/Modelfile", "-o", "out"))
    works(mkllm("build", "model.gguf", "-o", "same", "--lora", "tuned.gguf"))
    assert (folder / "out").read_bytes() == (folder / "same").read_bytes()
    assert [member.name for member in manifest(folder / "out").adapters] == ["adapters/00-tuned.gguf"]
    (folder / "sub/Modelfile").write_text("FROM ../model.gguf\nADAPTER none.gguf\n")
    refused(mkllm("build", "sub/Modelfile", "-o", "out2"), 10, "there is no file")


def test_a_modelfile_of_the_folder_that_it_lies_in(mkllm: Run, folder: Path) -> None:
    (folder / "Modelfile").write_text("FROM .\nSYSTEM Be brief.\n")
    works(mkllm("build", ".", "-o", "out"))
    assert manifest(folder / "out").provenance.file == "model.gguf"
    assert manifest(folder / "out").defaults.system_prompt == "Be brief."


HARMFUL = [
    ("sign = 'touch {file} ran'", "'sign' is not taken from a recipe that was found in a folder"),
    ("force = true", "'force' is not taken"),
    ("engine-arg = ['--log-file', 'kept']", "'engine-arg' is not taken"),
    ("output = '../kept'", "'sub/../kept' is outside of the folder"),
    ("output = '/tmp/kept'", "'/tmp/kept' is outside of the folder"),
    ("output = 'link/kept'", "'sub/link/kept' is outside"),
    ("system = '@../kept'", "'sub/../kept' is outside"),
    ("system = '@linked'", "'sub/linked' is outside"),
    ("message = ['user', '@../kept']", "'sub/../kept' is outside"),
    ("license = ['MIT', '@../kept']", "'sub/../kept' is outside"),
    ("chat-template = '@../kept'", "'sub/../kept' is outside"),
    ("imatrix = '../kept'", "'sub/../kept' is outside"),
    ("lora = '../kept'", "'sub/../kept' is outside"),
    ("icon = '../kept'", "'sub/../kept' is outside"),
]


@pytest.mark.parametrize(("line", "sentence"), HARMFUL)
def test_a_recipe_that_was_found_in_a_folder_may_not_reach_out(
    mkllm: Run, folder: Path, line: str, sentence: str
) -> None:
    (folder / "kept").write_text("kept")
    (folder / "sub").mkdir()
    (folder / "sub/link").symlink_to(folder)
    (folder / "sub/linked").symlink_to(folder / "kept")
    (folder / "sub/mkllm.toml").write_text(f"model = '../model.gguf'\n{line}\n")
    before = sorted(os.listdir(folder))
    done = mkllm("build", "sub")
    refused(done, 25, sentence)
    assert "sub/mkllm.toml:2: " in done.stderr and "name it with -f 'sub/mkllm.toml'" in done.stderr
    assert sorted(os.listdir(folder)) == before and (folder / "kept").read_text() == "kept"


def test_a_recipe_that_is_named_may_reach_out(mkllm: Run, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "prompt.txt").write_text("Be brief.")
    text = "model = '../model.gguf'\nsystem = '@../prompt.txt'\noutput = '../out'\nforce = true\n"
    (folder / "sub/mkllm.toml").write_text(text)
    for words in (["-f", "sub/mkllm.toml"], ["sub/mkllm.toml"]):
        done = mkllm("build", *words)
        assert works(done) and "options from" not in done.stderr
        assert manifest(folder / "out").defaults.system_prompt == "Be brief."


def test_a_recipe_that_was_found_is_told_and_gives_way_to_the_command_line(mkllm: Run, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub/prompt.txt").write_text("Be brief.")
    (folder / "sub/mkllm.toml").write_text("model = '../model.gguf'\noutput = '../kept'\nsystem = '@prompt.txt'\n")
    done = mkllm("build", "sub", "-o", "out")
    assert works(done) and done.stderr == "note: options from sub/mkllm.toml\n"
    assert manifest(folder / "out").defaults.system_prompt == "Be brief." and not (folder / "kept").exists()


def test_a_modelfile_that_was_found_may_not_reach_out(mkllm: Run, folder: Path, adapter: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub/Modelfile").write_text("FROM ../model.gguf\nSYSTEM @../tuned.gguf\nPARAMETER stop x\n")
    works(mkllm("build", "sub", "-o", "out"))
    assert manifest(folder / "out").defaults.system_prompt == "@../tuned.gguf"
    (folder / "sub/Modelfile").write_text("FROM ../model.gguf\nADAPTER ../tuned.gguf\n")
    refused(mkllm("build", "sub", "-o", "out2"), 25, "sub/Modelfile:2:1: 'sub/../tuned.gguf' is outside of the folder")


def test_a_template_that_the_model_has_itself(mkllm: Run, folder: Path, gguf_bytes: Callable[..., bytes]) -> None:
    own = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    (folder / "model.gguf").write_bytes(gguf_bytes(tokenizer__chat_template=own))
    template = (
        "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
    )
    (folder / "Modelfile").write_text(f'FROM model.gguf\nTEMPLATE """{template}"""\n')
    done = mkllm("build", "./Modelfile", "-o", "out")
    assert works(done) and "TEMPLATE is made of the marks of the model's own chat template" in done.stderr
    assert manifest(folder / "out").defaults.chat_template is None
    (folder / "Modelfile").write_text(f'FROM model.gguf\nTEMPLATE """{template}Answer: """\n')
    works(mkllm("build", "./Modelfile", "-o", "other"))
    assert "Answer: " in str(manifest(folder / "other").defaults.chat_template)


@pytest.mark.parametrize("text", ["--api-key", "--port=1", "-m", "--reverse-prompt"])
def test_a_stop_text_may_look_like_an_option(mkllm: Run, folder: Path, text: str) -> None:
    (folder / "Modelfile").write_text(f"FROM model.gguf\nPARAMETER num_keep -1\nPARAMETER stop {text}\n")
    works(mkllm("build", "-f", "Modelfile", "-o", "out"))
    assert manifest(folder / "out").defaults.engine_args == ("--keep", "-1", "--reverse-prompt", text)


def test_notes_tell_file_and_line(mkllm: Run, folder: Path) -> None:
    (folder / "Modelfile").write_text("FROM model.gguf\nPARAMETER tfs_z 0.5\n")
    done = mkllm("build", "-f", "Modelfile", "-o", "out")
    assert works(done) and done.stderr == (
        "note: Modelfile:2:1: PARAMETER tfs_z has no effect: llama.cpp has nothing of the kind\n"
    )


@pytest.mark.parametrize(
    ("name", "text", "words", "code", "sentence"),
    [
        (
            "mkllm.toml",
            "model = 'model.gguf'\n\ntop-p = 2.0\n",
            [],
            25,
            "mkllm.toml:3: 2.0 is not in the range 0<=x<=1",
        ),
        ("mkllm.toml", "model = 'model.gguf'\nhost = ''\n", [], 25, "mkllm.toml:2: '' is not an address"),
        ("mkllm.toml", "model = 'model.gguf'\nsystem = '@no'\n", [], 25, "mkllm.toml:2: 'no' cannot be read"),
        ("mkllm.toml", "model = 'model.gguf'\nfor = 'pi9'\n", [], 25, "mkllm.toml:2: there is no device 'pi9'"),
        ("mkllm.toml", "model = 'model.gguf'\nsha256 = 'x'\n", [], 25, "mkllm.toml:2: 'x' is no SHA-256"),
        ("mkllm.toml", "model = 'model.gguf'\ntop-p = 2.0\n", ["--top-p", "3"], 2, "--top-p"),
        ("mkllm.toml", "top-k = 1\n", [], 25, "mkllm.toml: it names no model: add one, or name it on the command line"),
        (
            "mkllm.toml",
            "model = 'model.gguf'\nrevision = 'x'\n",
            [],
            10,
            "is not on the hub, so it has no revision 'x'",
        ),
        ("Modelfile", "FROM model.gguf\nPARAMETER top_p 2\n", [], 25, "Modelfile:2:1: 2.0 is not in the range 0<=x<=1"),
        ("Modelfile", "FROM model.gguf\nSYSTM x\n", [], 25, "Modelfile:2:1: there is no instruction 'SYSTM'"),
        ("Modelfile", "FROM none.gguf\n", [], 10, "none.gguf"),
        ("Modelfile", f"FROM {'x' * 300}\n", [], 10, "x" * 300),
        ("mkllm.toml", f"model = '{'x' * 300}'\n", [], 10, "x" * 300),
        ("mkllm.toml", f"x = {'[' * 5000}{']' * 5000}\n", [], 25, "mkllm.toml: it is nested too deeply"),
        ("mkllm.toml", 'model = "a\\u0000b"\n', [], 25, "mkllm.toml:1: 'model': a character 0 is no part of"),
        ("Modelfile", 'FROM model.gguf\nTEMPLATE {{ "a\\x00b" }}\n', [], 25, "Modelfile:2:1: what was given is not"),
        ("Modelfile", "FROM no-such-model\n", [], 10, "'no-such-model'"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    mkllm: Run, folder: Path, name: str, text: str, words: list[str], code: int, sentence: str
) -> None:
    (folder / name).write_text(text)
    refused(mkllm("build", "-f", name, "-o", "out", *words), code, sentence)
    assert not (folder / "out").exists()


def test_other_mistakes(mkllm: Run, folder: Path) -> None:
    (folder / "Modelfile").write_text("FROM model.gguf\n")
    refused(mkllm("build", "-f", "none", "-o", "out"), 25, "'none' cannot be read (no such file or directory)")
    refused(mkllm("build", "./Modelfile", "-f", "Modelfile"), 2, "are two recipes: give one of them")
    refused(mkllm("build", "model.gguf", "-o", "out", "--sha256", "0" * 64), 16, "it is not the model that was meant")
    works(mkllm("build", "model.gguf", "-o", "out"))
    refused(mkllm("inspect", "out", "--json", "--recipe"), 2, "--json and --recipe are two forms")
    refused(mkllm("pull", "./Modelfile"), 11, "`mkllm build` reads it")


def test_json_tells_the_options(mkllm: Run, folder: Path) -> None:
    told = json.loads(works(mkllm("build", "model.gguf", "-o", "out", "--split", "always", "--json")))
    assert told["manifest"]["options"] == {"split": "always"}
