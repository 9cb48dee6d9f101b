"""What differs between systems. Each module here takes its names from its half, `posix` or `windows`; on macOS from
`macos` what differs there."""
