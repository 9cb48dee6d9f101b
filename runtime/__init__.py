"""What is frozen into an artifact: from the file to a served model. Never imports `mkllm.builder`."""
