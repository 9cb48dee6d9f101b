"""From what the user typed to bytes that can be written: references, GGUF files, the hub."""

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when huggingface_hub is imported: nothing phones home
