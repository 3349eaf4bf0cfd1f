"""The toy run as a program, for several processes: toy_main.py OUTPUT_DIR JSON_SETTINGS."""

import json
import sys
from pathlib import Path

from toy import toy_train

from hf_videomae.training import RunError, user_errors

if __name__ == "__main__":
    settings = json.loads(sys.argv[2])
    with user_errors(RunError):
        sys.exit(toy_train(Path(sys.argv[1]), **settings).exit_code)
