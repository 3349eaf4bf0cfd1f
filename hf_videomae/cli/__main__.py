"""Run `python -m hf_videomae.cli`, for when the script `hf-videomae` is not on the path."""

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())
