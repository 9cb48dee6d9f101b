"""What tests of converted models have in common: the command line, and transformers in the converter's Python."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from served import Mkllm, command_line

from mkllm.builder.convert.environment import Environment, environment
from mkllm.builder.progress import Output

LONG = 900  # seconds
# Log-probabilities of the token after those given, by transformers in 32 bits.
REFERENCE = """
import json, sys, torch, transformers
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
with torch.no_grad():
    scores = [model(torch.tensor([ids])).logits[0, -1] for ids in json.loads(sys.argv[2])]
print(json.dumps([torch.log_softmax(one, -1).tolist() for one in scores]))
"""
# The same with an adapter merged into the weights: W + alpha / r * B A.
MERGED = """
import json, sys, torch, transformers
from safetensors.torch import load_file
folder, adapter = sys.argv[1], sys.argv[1] + "/../adapter"
model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
settings, parts = json.load(open(adapter + "/adapter_config.json")), load_file(adapter + "/adapter_model.safetensors")
weights = model.state_dict()
for name in [name for name in parts if ".lora_A." in name]:
    change = parts[name.replace(".lora_A.", ".lora_B.")] @ parts[name] * settings["lora_alpha"] / settings["r"]
    weights[name.removeprefix("base_model.model.").replace(".lora_A.", ".")].add_(change)
with torch.no_grad():
    scores = [model(torch.tensor([ids])).logits[0, -1] for ids in json.loads(sys.argv[2])]
print(json.dumps([torch.log_softmax(one, -1).tolist() for one in scores]))
"""


@pytest.fixture(scope="module")
def converter() -> Environment:
    """llama.cpp's converter with its Python, in which transformers is too."""
    return environment(Output(True))


@pytest.fixture(scope="module")
def run(mkllm: Path) -> Mkllm:
    return command_line(mkllm, LONG)


def transformers(converter: Environment, code: str, folder: Path, values: object) -> Any:
    """What this code prints as JSON; the folder and the values are its words."""
    words = [converter.python, "-s", "-E", "-c", code, folder, json.dumps(values)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
