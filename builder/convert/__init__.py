"""Checkpoints of other tools become GGUF: llama.cpp's own converter, in an environment of its own."""
