"""Make small sound inputs that are then damaged: videos in many containers, a model, index files, shards."""

import io
import json
import struct
import subprocess
import tarfile
from pathlib import Path

_H264 = "-c:v libx264 -pix_fmt yuv420p -g 4 -bf 2"
CONTAINERS = {
    "h264.mp4": _H264, "faststart.mp4": f"{_H264} -movflags +faststart", "edits.mp4": f"{_H264} -ss 0.2",
    "fragments.mp4": f"{_H264} -movflags frag_keyframe+empty_moov", "h264.mov": _H264, "h264.mkv": _H264,
    "h264.flv": _H264, "h264.ts": _H264, "raw.h264": _H264, "turned.mp4": f"{_H264} -metadata:s:v rotate=90",
    "hevc.mp4": "-c:v libx265 -x265-params log-level=error -pix_fmt yuv420p",
    "ten.mp4": "-c:v libx264 -pix_fmt yuv420p10le",
    "vp8.webm": "-c:v libvpx", "vp9.webm": "-c:v libvpx-vp9 -cpu-used 8", "av1.mp4": "-c:v libaom-av1 -cpu-used 8",
    "vp8.ivf": "-c:v libvpx", "mpeg4.avi": "-c:v mpeg4 -bf 2", "msmpeg4.avi": "-c:v msmpeg4",
    "mjpeg.avi": "-c:v mjpeg",
    "raw.avi": "-c:v rawvideo -pix_fmt bgr24", "pal8.avi": "-c:v rawvideo -pix_fmt pal8",
    "cinepak.avi": "-c:v cinepak",
    "huffyuv.avi": "-c:v huffyuv", "ffv1.mkv": "-c:v ffv1", "png.mov": "-c:v png", "prores.mov": "-c:v prores",
    "qtrle.mov": "-c:v qtrle", "svq1.mov": "-c:v svq1", "mjpeg.mov": "-c:v mjpeg", "h263.3gp": "-c:v h263 -s 128x96",
    "wmv2.wmv": "-c:v wmv2", "wmv1.asf": "-c:v wmv1", "flv1.flv": "-c:v flv1", "mpeg1.mpg": "-c:v mpeg1video -r 25",
    "mpeg2.vob": "-c:v mpeg2video -r 25 -f vob", "mpeg2.ts": "-c:v mpeg2video -r 25",
    "raw.m2v": "-c:v mpeg2video -r 25",
    "mpeg2.mxf": "-c:v mpeg2video -r 25", "theora.ogv": "-c:v libtheora", "a.gif": "", "a.apng": "",
    "mpeg4.nut": "-c:v mpeg4",
    "raw.y4m": "-pix_fmt yuv420p", "rv10.rm": "-c:v rv10", "mpeg2.wtv": "-c:v mpeg2video -r 25",
    "raw.mjpeg": "-c:v mjpeg",
    "raw.hevc": "-c:v libx265 -x265-params log-level=error", "snow.nut": "-c:v snow -strict -2",
    "sound.mp4": f"SOUND {_H264}",
    "sound.mkv": f"SOUND {_H264}", "sound.ts": f"SOUND {_H264}", "zmbv.avi": "-c:v zmbv -pix_fmt bgr0",
}  # fmt: skip


def write_containers(folder: Path, *, names: tuple[str, ...] = tuple(CONTAINERS)) -> list[str]:
    """Write a test picture of 12 frames in each container that this ffmpeg can make, and return their names."""
    made = []
    for name in names:
        path = folder / name
        options = CONTAINERS[name].split()
        source = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=12:duration=1"]
        if options[:1] == ["SOUND"]:
            options = ["-c:a", "mp2", *options[1:]]
            source += ["-f", "lavfi", "-i", "sine=duration=1"]
        command = ["ffmpeg", "-v", "error", "-y", *source, *options, str(path)]
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
        if done.returncode == 0 and path.stat().st_size:
            made.append(name)
    return made


def write_models(folder: Path) -> list[str]:
    """Write a classifier and a pre-training model of a few kilobytes."""
    import torch

    from hf_videomae import (
        VideoMAEConfig,
        VideoMAEForPreTraining,
        VideoMAEForVideoClassification,
        VideoMAEVideoProcessor,
    )

    small = {
        "image_size": 32, "num_frames": 4, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "decoder_hidden_size": 8, "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": 2, "decoder_intermediate_size": 16,
    }  # fmt: skip
    torch.manual_seed(0)
    classifier = VideoMAEForVideoClassification(
        VideoMAEConfig.from_preset("tiny", task="classification", id2label={0: "a", 1: "b"}, **small)
    )
    pretraining = VideoMAEForPreTraining(VideoMAEConfig.from_preset("tiny", **small))
    for name, model in (("classifier", classifier), ("pretraining", pretraining)):
        model.save_pretrained(folder / name)
        VideoMAEVideoProcessor.from_config(model.config).save_pretrained(folder / name)
    return ["classifier", "pretraining"]


def write_indexes(folder: Path) -> list[str]:
    """Write index files of the forms that are read; the videos lie beside them."""
    rows = [{"path": f"v{number}.mp4", "label": "ab"[number % 2], "split": "train"} for number in range(4)]
    header = ["path", "label", "split"]
    table = "\n".join([",".join(header), *(",".join(row.values()) for row in rows)]) + "\n"
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    renamed = "".join(json.dumps({"file_name": row["path"], "label": row["label"]}) + "\n" for row in rows)
    (folder / "index.csv").write_text(table)
    (folder / "metadata.csv").write_text(table.replace("path", "file_name", 1))
    (folder / "metadata.jsonl").write_text(lines)
    (folder / "renamed.jsonl").write_text(renamed)
    (folder / "spaces.csv").write_text("path label\n" + "".join(f"{row['path']} {row['label']}\n" for row in rows))
    return ["index.csv", "metadata.csv", "metadata.jsonl", "renamed.jsonl", "spaces.csv"]


def write_shards(folder: Path) -> list[str]:
    """Write a Parquet file with and without compression, and a tar of WebDataset."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    videos = [struct.pack(">I", number) * 20 for number in range(4)]
    table = pa.table({"video": pa.array(videos, pa.binary()), "label": pa.array(["a", "b", "a", "b"])})
    pq.write_table(table, folder / "plain.parquet", compression="none")
    pq.write_table(table, folder / "snappy.parquet")
    nested = pa.table({"video": pa.array([{"bytes": video, "path": None} for video in videos]), "label": [0, 1, 0, 1]})
    pq.write_table(nested, folder / "nested.parquet", compression="none")
    with tarfile.open(folder / "a.tar", "w") as tar:
        for number, video in enumerate(videos):
            for ending, content in (("mp4", video), ("cls", str(number % 2).encode()), ("json", b'{"label": "a"}')):
                entry = tarfile.TarInfo(f"{number:04d}.{ending}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return ["plain.parquet", "snappy.parquet", "nested.parquet", "a.tar"]


def write_checkpoints(folder: Path) -> list[str]:
    """Write a checkpoint as the originals save it, in the two formats of torch.save, and as safetensors."""
    import argparse

    import torch
    from safetensors.torch import save_file

    weights = {f"module.encoder.blocks.{number}.norm.weight": torch.ones(4) for number in range(3)}
    saved = {"model": weights, "args": argparse.Namespace(model="small", num_frames=16), "epoch": 3}
    torch.save(saved, folder / "zip.pth")
    torch.save(saved, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(weights, folder / "plain.safetensors")
    return ["zip.pth", "legacy.pth", "plain.safetensors"]
