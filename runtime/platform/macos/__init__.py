"""What of POSIX systems is different on macOS."""
