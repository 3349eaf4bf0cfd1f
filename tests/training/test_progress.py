"""Test progress lines, throughput, and advice about slow data."""

import pytest

from hf_videomae.training.progress import ProgressBar, ThroughputMeter, describe_data_wait


def test_throughput_meter_separates_waiting_and_paused_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("hf_videomae.training.progress.time.perf_counter", lambda: now[0])
    throughput = ThroughputMeter()
    with throughput.waiting():
        now[0] += 1
    now[0] += 3
    throughput.count(8)
    with throughput.paused():
        now[0] += 100
    assert throughput.read({"decode": 3.0}) == (4.0, 2.0, 0.25, {"decode": 3.0})
    now[0] += 1
    assert throughput.read({"decode": 3.5, "read": 1.0}) == (1.0, 0.0, 0.0, {"decode": 0.5, "read": 1.0})


def test_progress_is_plain_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"step": 5, "loss": 0.91234, "lr": 1e-3, "clips_per_second": 123.4, "data_wait": 0.034}
    progress = ProgressBar(10, bar=False)
    progress.show(metrics)
    progress.close()
    line = capsys.readouterr().out
    assert line.startswith("step 5/10  loss 0.9123  123.4 clips/s  data 3 %  lr 1.00e-03  left ")


@pytest.mark.parametrize(
    ("seconds", "wait", "shown"),
    [
        ({"decode": 2.0, "transform": 1.0}, 0.32, "data 32 % (decode)  "),
        (
            {"read": 2.5, "decode": 2.0, "transform": 1.0},
            0.32,
            "data 32 % (decode)  ",
        ),  # workers need 3 s, reading 2.5
        ({"read": 3.5, "decode": 2.0, "transform": 1.0}, 0.32, "data 32 % (read)  "),
        ({"decode": 2.0, "transform": 1.0}, 0.03, "data 3 %  "),
        ({}, 0.32, "data 32 %  "),
    ],
)
def test_progress_names_slowest_data_stage(
    capsys: pytest.CaptureFixture[str], seconds: dict[str, float], wait: float, shown: str
) -> None:
    metrics = {"step": 5, "loss": 0.9, "lr": 1e-3, "clips_per_second": 1.0, "data_wait": wait, "data_seconds": seconds}
    ProgressBar(10, bar=False).show(metrics)
    assert shown in capsys.readouterr().out


def test_data_wait_comes_with_advice() -> None:
    lines = describe_data_wait(0.32, {"fetch": 0.001, "decode": 20.0, "transform": 5.0}, num_workers=3)
    assert lines[0] == "waited for data 32 % of the time (decode 20.0 s, transform 5.0 s)"
    assert "decoding took most of it: more --num_workers (3 now, " in lines[1] and "hf-videomae prepare" in lines[1]
    assert "--cache_dir" in describe_data_wait(0.5, {"read": 9.0, "decode": 5.0}, num_workers=1)[1]
    assert (
        len(describe_data_wait(0.05, {"decode": 20.0}, num_workers=1))
        == len(describe_data_wait(0.9, {}, num_workers=1))
        == 1
    )
