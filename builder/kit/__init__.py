"""The kit: what every artifact of one target has in common, built once (spec/kit.md)."""
