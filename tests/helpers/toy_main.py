"""Train the toy as a program, for several processes: toy_main.py OUTPUT_DIR JSON_SETTINGS."""

import json
import sys
from pathlib import Path

from hf_videomae.training import RunError, exit_on_user_error
from tests.helpers.toy import toy_train

if __name__ == "__main__":
    settings = json.loads(sys.argv[2])
    with exit_on_user_error(RunError):
        sys.exit(toy_train(Path(sys.argv[1]), **settings).exit_code)
