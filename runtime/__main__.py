"""Where a frozen artifact begins, and `python -m mkllm.runtime` with MKLLM_ARTIFACT set."""

import sys

from mkllm.runtime.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
