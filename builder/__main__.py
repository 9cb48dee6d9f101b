"""`python -m mkllm.builder` is `mkllm`."""

from mkllm.builder.cli import main

main()
