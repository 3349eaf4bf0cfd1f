"""Test that errors of user input end a process in order."""

from pathlib import Path

import pytest
import torch.distributed as distributed

from hf_videomae.training import RunError, exit_on_user_error


@pytest.mark.parametrize("kinds", [(), (RunError,)])
def test_user_error_destroys_process_group(
    tmp_path: Path, kinds: tuple[type[Exception], ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Threads of gloo that end after the interpreter abort the process."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        with pytest.raises(SystemExit) as caught, exit_on_user_error(*kinds):
            raise RunError("no such\nthing")
        assert caught.value.code == 2 and capsys.readouterr().err == "error: no such thing\n"
        assert not distributed.is_initialized()
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
