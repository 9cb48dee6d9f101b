"""Recipes: files that say what `mkllm build` is to make, in mkllm's own form or as a Modelfile of Ollama's."""
