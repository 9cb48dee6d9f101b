"""Run by the converter's own Python: conversations as transformers renders them, and small models with chat templates.

    python chat_reference.py JOB.json ANSWER.json FOLDER…

FOLDERs have what the converter does without: gguf, jinja2. They come last, so that its own packages are not hidden.
JOB: `families` by name (`template`; `tool_use`, another one where there are tools; `bos`, `eos`, `add_bos`; `own`:
whether the model has that template; `file`: its name), `given`: variables for all templates, `conversations` by name
(`messages`, and `tools`, `continues`), `model`: a GGUF file, `folder` for
its copies. ANSWER: by family and conversation the text, or null where the template refuses.
"""

import json
import sys
from pathlib import Path

sys.path += sys.argv[3:]

import gguf
import jinja2
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

BOS, EOS = "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"
ADD_BOS, TOKENS, TEMPLATE = "tokenizer.ggml.add_bos_token", "tokenizer.ggml.tokens", "tokenizer.chat_template"


def rendered(family, conversation, given):
    tokens = {"bos_token": family["bos"], "eos_token": family["eos"]}
    vocabulary = {text: number for number, text in enumerate(dict.fromkeys(filter(None, [*tokens.values(), "a"])))}
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(vocabulary, "a")), **tokens)
    words.chat_template = {"default": family["template"]} | ({"tool_use": own} if (own := family["tool_use"]) else {})
    continues = conversation.get("continues", False)
    try:
        return words.apply_chat_template(
            conversation["messages"],
            tools=conversation.get("tools"),
            tokenize=False,
            add_generation_prompt=not continues,
            continue_final_message=continues,
            **given,
        )
    except jinja2.TemplateError:
        return None


def write_model(source, family, path):
    reader = gguf.GGUFReader(source)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    kinds = {name: field.types for name, field in reader.fields.items()}
    fields[TOKENS][fields[EOS]] = family["eos"]
    fields[TOKENS][fields[BOS]] = family["bos"] or "<|never|>"
    if family["bos"] == family["eos"]:
        fields[TOKENS][fields[BOS]], fields[BOS] = "<|never|>", fields[EOS]
    fields[ADD_BOS], kinds[ADD_BOS] = family["add_bos"], [gguf.GGUFValueType.BOOL]
    for name, text in {TEMPLATE: family["template"], f"{TEMPLATE}.tool_use": family["tool_use"]}.items():
        fields.pop(name, None)
        if text and family["own"]:
            fields[name], kinds[name] = text, [gguf.GGUFValueType.STRING]
    writer = gguf.GGUFWriter(path, fields["general.architecture"])
    for name, value in fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            kind, *inner = kinds[name]
            writer.add_key_value(name, value, kind, sub_type=inner[-1] if inner else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(job_file, answer_file):
    job = json.loads(Path(job_file).read_text("utf-8"))
    answer = {}
    for name, family in job["families"].items():
        answer[name] = {key: rendered(family, one, job["given"]) for key, one in job["conversations"].items()}
        write_model(job["model"], family, Path(job["folder"]) / family["file"])
    Path(answer_file).write_text(json.dumps(answer), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
