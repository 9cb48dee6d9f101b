"""The halves for Windows. What Python has no function for is called by ctypes."""
