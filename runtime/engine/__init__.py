"""The engine as a child process: placed, started, watched, asked, stopped (spec/launch.md, 3 and 4)."""
