"""What the engine is told of where things lie."""

from mkllm.runtime.engine.placed import Embedded, Weights

ADAPTERS = (Embedded("adapters/00-a.gguf", 7, 64, 100), Embedded("adapters/01-b.gguf", 7, 192, 50))


def test_a_model_alone():
    assert Weights(5, 4096, 1000).variables("model.gguf") == {"MKLLM_EMBEDDED": "model.gguf=5@4096:1000"}
    assert Weights(5, 4096, 1000, packed=True).variables("m") == {"MKLLM_EMBEDDED": "m=5@4096:1000p"}


def test_adapters_beside_it():
    weights = Weights(5, 4096, 1000, others=ADAPTERS)
    told = "adapters/00-a.gguf=7@64:100;adapters/01-b.gguf=7@192:50"
    assert weights.variables("m") == {"MKLLM_EMBEDDED": f"m=5@4096:1000;{told}"}
    assert weights.descriptors == (5, 7)
    assert Weights(7, 4096, 1000, others=ADAPTERS).descriptors == (7,)  # inherited once
    split = Weights(5, 0, 1000, first="/m-00001-of-00002.gguf", parts=(5, 6), others=ADAPTERS)
    assert split.variables("m") == {"MKLLM_SPLIT": "m=/m-00001-of-00002.gguf", "MKLLM_EMBEDDED": told}
    assert split.descriptors == (5, 6, 7)
