"""Which chat templates are rendered: those of the families' models, and this project's own formats; renders nothing."""

import re
from dataclasses import asdict, dataclass
from typing import Any

from families.sources import templates

from mkllm.builder.model.formats import formats


@dataclass(frozen=True)
class Family:
    """A chat template and the tokens that it may write; `bos` None: there is none.

    `add_bos`: the tokenizer puts it in front, whatever the template does. `own`: the template is in the model's file;
    else it is the format `source`, given at build. `tool_use`: the template for conversations with tools.
    """

    source: str
    bos: str | None
    eos: str
    add_bos: bool = True
    tool_use: str | None = None
    own: bool = True

    @property
    def file(self) -> str:
        """The name of the model's file."""
        return re.sub(r"\W+", "-", self.source.lower()) + ".gguf"

    def told(self) -> dict[str, Any]:
        """What the reference needs."""
        text = templates()[self.source] if self.own else formats()[self.source].template
        return {
            **asdict(self),
            "template": text,
            "tool_use": self.tool_use and templates()[self.tool_use],
            "file": self.file,
        }


S = ("<s>", "</s>")
LLAMA3 = ("<|begin_of_text|>", "<|eot_id|>")
CHATML = (None, "<|im_end|>", False)
GEMMA = ("<bos>", "<eos>")
DEEPSEEK = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>")
COHERE = ("<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>")
PHI3 = ("<s>", "<|endoftext|>", False)
END = "<|endoftext|>"
V02 = "mistralai/Mistral-7B-Instruct-v0.2 "
FAMILIES = {
    "LLaMA 2": Family("TheBloke/FusionNet_34Bx2_MoE-AWQ", *S),
    "LLaMA 2, with turns checked": Family("bofenghuang/vigogne-2-70b-chat", *S),
    "LLaMA 3": Family("Llama-3", *LLAMA3),
    "LLaMA 3.1": Family("meta-llama-Llama-3.1-8B-Instruct", *LLAMA3),
    "LLaMA 3.2": Family("meta-llama-Llama-3.2-3B-Instruct", *LLAMA3),
    "LLaMA 3.3": Family("meta-llama-Llama-3.3-70B-Instruct", *LLAMA3),
    "Vicuna, as llama.cpp has it": Family("eachadea/vicuna-13b-1.1", *S),
    "Mistral 0.1": Family("MISTRAL_INSTRUCT", *S),
    "Mistral 0.2": Family(f"{V02}(NOTE: Old pre-v1 without a system prompt)", *S),
    "Mistral 0.2, later": Family(f"{V02}(mistralai 'v1' template with a system prompt)", *S),
    "Mistral Large 2407": Family(
        "Mistral-Large-Instruct-2407 (mistralai 'v3' template; modified to have system prompt at start)", *S
    ),
    "Mistral Nemo": Family("mistralai-Mistral-Nemo-Instruct-2407", *S),
    "Mistral Small 3.2": Family("Mistral-Small-3.2-24B-Instruct-2506", *S),
    "Mixtral": Family("MIXTRAL_INSTRUCT", *S),
    "gpt-oss": Family("openai-gpt-oss-120b", "<|startoftext|>", "<|return|>", False),
    "Gemma 1": Family("google/gemma-7b-it", *GEMMA),
    "Gemma 2": Family("google-gemma-2-2b-it", *GEMMA),
    "Gemma 4": Family("google-gemma-4-31B-it", *GEMMA),
    "Phi 3 mini": Family("Phi-3-mini", *PHI3),
    "Phi 3 small": Family("Phi-3-small", END, END, False),
    "Phi 3 medium": Family("Phi-3-medium", *PHI3),
    "Phi 3.5": Family("microsoft-Phi-3.5-mini-instruct", *PHI3),
    "Phi 4": Family("phi-4", *CHATML),
    "Qwen 2.5": Family("Qwen-Qwen2.5-7B-Instruct", *CHATML),
    "QwQ": Family("Qwen-QwQ-32B", *CHATML),
    "Qwen 3": Family("Qwen-Qwen3-0.6B", *CHATML),
    "Qwen 3 Coder": Family("Qwen3-Coder", *CHATML),
    "Qwen 3.5": Family("Qwen3.5-4B", *CHATML),
    "DeepSeek Coder": Family("deepseek-ai/deepseek-coder-33b-instruct", DEEPSEEK[0], "<|EOT|>"),
    "DeepSeek V2": Family("DeepSeek-V2", *DEEPSEEK),
    "DeepSeek V3.1": Family("deepseek-ai-DeepSeek-V3.1", *DEEPSEEK),
    "DeepSeek V3.2": Family("deepseek-ai-DeepSeek-V3.2", *DEEPSEEK),
    "DeepSeek R1, on Llama": Family("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", *DEEPSEEK),
    "DeepSeek R1, on Qwen": Family("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", *DEEPSEEK),
    "Command-R+": Family(
        "CohereForAI/c4ai-command-r-plus", *COHERE, tool_use="CohereForAI-c4ai-command-r-plus-tool_use"
    ),
    "Command-R7B": Family("CohereForAI-c4ai-command-r7b-12-2024-tool_use", *COHERE),
    "OpenHermes 2.5": Family("teknium/OpenHermes-2.5-Mistral-7B", "<s>", "<|im_end|>"),
    "OpenChat 3.5": Family("openchat/openchat-3.5-0106", "<s>", "<|end_of_turn|>"),
    "Granite 3.3": Family("ibm-granite-granite-3.3-2B-Instruct", END, "<|end_of_text|>", False),
    "SmolLM 3": Family("HuggingFaceTB-SmolLM3-3B", *CHATML),
}
TOKENS: dict[str, tuple[str | None, str, bool]] = {
    "chatml": CHATML,
    "command-r": (*COHERE, True),
    "deepseek-coder": (DEEPSEEK[0], "<|EOT|>", True),
    "deepseek-llm": (*DEEPSEEK, True),
    "falcon": (END, END, False),
    "falcon3": (None, END, False),
    "gemma": (*GEMMA, True),
    "granite": (END, "<|end_of_text|>", False),
    "llama3": (*LLAMA3, True),
    "olmo": (END, END, False),
    "openchat": ("<s>", "<|end_of_turn|>", True),
    "phi2": (END, END, False),
    "phi3": PHI3,
}
FORMATS = {f"`{name}`": Family(name, *TOKENS.get(name, (*S, True)), own=False) for name in formats()}

# The templates and formats of each family in families.toml.
OF = {
    "alpaca": ["`alpaca`"],
    "vicuna": ["Vicuna, as llama.cpp has it", "`vicuna`"],
    "llama-2": ["LLaMA 2", "LLaMA 2, with turns checked", "`llama2`"],
    "llama-3": ["LLaMA 3", "LLaMA 3.1", "LLaMA 3.2", "LLaMA 3.3", "`llama3`"],
    "mistral": ["Mistral 0.1", "Mistral 0.2", "Mistral 0.2, later", "Mistral Nemo", "`mistral`"],
    "mixtral": ["Mixtral", "`mistral`"],
    "dbrx": ["`chatml`"],
    "olmo": ["`olmo`"],
    "olmo2": ["`olmo`"],
    "falcon-7b": ["`falcon`"],
    "falcon-40b": ["`falcon`"],
    "gpt-oss": ["gpt-oss"],
    "gemma": ["Gemma 1", "`gemma`"],
    "gemma2": ["Gemma 2", "`gemma`"],
    "gemma3": ["`gemma`"],
    "phi-2": ["`phi2`"],
    "phi-3": ["Phi 3 mini", "Phi 3 small", "Phi 3 medium", "Phi 3.5", "`phi3`"],
    "phi-moe": ["Phi 3.5"],
    "qwen2": ["Qwen 2.5", "`chatml`"],
    "qwen2-moe": ["Qwen 2.5", "`chatml`"],
    "qwen3": ["Qwen 3"],
    "qwen3-moe": ["Qwen 3", "Qwen 3 Coder"],
    "deepseek-v2": ["DeepSeek V2"],
    "deepseek-v3": ["DeepSeek V3.1", "DeepSeek V3.2"],
    "command-r": ["`command-r`"],
    "command-r-plus": ["Command-R+"],
    "command-r7b": ["Command-R7B"],
}
