"""Ports on POSIX systems."""

import errno
import socket
import sys

assert sys.platform != "win32"

# The option by which nobody else gets the port, although connections of a program before still linger.
EXCLUSIVE = socket.SO_REUSEADDR
# What an address says that another program has.
TAKEN = frozenset({errno.EADDRINUSE})
