"""Ports on Windows."""

import errno
import socket
import sys

assert sys.platform == "win32"

# The option by which nobody else gets the port: SO_REUSEADDR means the opposite here.
EXCLUSIVE = socket.SO_EXCLUSIVEADDRUSE
# What an address says that another program has, or that Windows keeps for itself (ranges of Hyper-V's).
TAKEN = frozenset({errno.EADDRINUSE, errno.WSAEADDRINUSE, errno.EACCES, errno.WSAEACCES})
