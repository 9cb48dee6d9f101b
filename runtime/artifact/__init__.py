"""The artifact's format: the only part of the runtime that the builder imports (spec/artifact.md)."""
