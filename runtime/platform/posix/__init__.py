"""The halves for Linux and macOS."""
