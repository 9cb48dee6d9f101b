"""The default model `demo`: its corpus, tokenizer, training, export and evaluation.

`demo.gguf` in this folder is the product; the rest makes it and measures it.
"""
