"""The halves for Linux, and of macOS what is the same there."""
