"""The HTTP server that people and their tools talk to (spec/http.md); the engine is behind it."""
