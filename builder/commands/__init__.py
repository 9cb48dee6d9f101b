"""The commands of `mkllm`, one a file; each is imported when it is called."""
