"""Prints where the engine of this machine's kit lies."""

from mkllm.builder.kit.store import find_kit

if __name__ == "__main__":
    kit = find_kit("linux-x86_64")
    print(kit.path / "members" / kit.engine_program)
