"""The artifact as a service of systemd: its unit, and what installs, removes and asks for it (spec/launch.md, 6)."""
