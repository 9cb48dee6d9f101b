"""From what the user typed to bytes that can be written: references, GGUF files, the hub."""
