"""Damage to files, from random numbers alone: the same numbers give the same bytes."""

import copy
import json
import random
import re
from collections.abc import Callable
from typing import Any

_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63, 2**64 - 1)
# Names of boxes, chunks and atoms: four printable characters.
_NAME = re.compile(rb"[A-Za-z0-9 ]{4}")
_EDGE = 1500  # bytes in which the heads and tables of small files lie


def mutate_bytes(content: bytes, numbers: random.Random) -> bytes:
    """Return a file with one to eight kinds of damage, most of it at its two ends."""
    made = bytearray(content)
    for _ in range(numbers.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        if made:
            numbers.choice(_KINDS)(made, numbers)
    return bytes(made)


def _place(content: bytearray, numbers: random.Random) -> int:
    last = len(content) - 1
    if numbers.random() < 0.6:
        return min(last, numbers.randrange(_EDGE))
    return max(0, last - numbers.randrange(_EDGE)) if numbers.random() < 0.5 else numbers.randint(0, last)


def _flip_bits(content: bytearray, numbers: random.Random) -> None:
    for _ in range(numbers.choice((1, 1, 4, 32))):
        content[_place(content, numbers)] ^= 1 << numbers.randrange(8)


def _set_field(content: bytearray, numbers: random.Random) -> None:
    """Write an extreme number over a field of 1 to 8 bytes, in either order of bytes."""
    size = numbers.choice((1, 2, 4, 4, 8))
    place, value = _place(content, numbers), numbers.choice(_EXTREMES) % 256**size
    content[place : place + size] = value.to_bytes(size, numbers.choice(("big", "little")))


def _set_box_size(content: bytearray, numbers: random.Random) -> None:
    """Write an extreme number before a name (MP4) or behind it (RIFF)."""
    names = [found.start() for found in _NAME.finditer(content)]
    if not names:
        return
    place = numbers.choice(names) + numbers.choice((-4, 4))
    if 0 <= place <= len(content) - 4:
        old = int.from_bytes(content[place : place + 4])
        value = numbers.choice((*_EXTREMES[:12], old + 1, old - 1, old * 2, old // 2)) % 2**32
        content[place : place + 4] = value.to_bytes(4)


def _rename_box(content: bytearray, numbers: random.Random) -> None:
    names = [found.start() for found in _NAME.finditer(content)]
    if len(names) >= 2:
        target, source = numbers.choice(names), numbers.choice(names)
        content[target : target + 4] = content[source : source + 4]


def _truncate(content: bytearray, numbers: random.Random) -> None:
    del content[numbers.randint(0, len(content)) :]


def _delete(content: bytearray, numbers: random.Random) -> None:
    place = _place(content, numbers)
    del content[place : place + numbers.choice((1, 4, 16, 188, 1000))]


def _duplicate(content: bytearray, numbers: random.Random) -> None:
    place, size = _place(content, numbers), numbers.choice((1, 4, 16, 188, 1000))
    content[place:place] = content[place : place + size] * numbers.choice((1, 1, 3))


def _insert(content: bytearray, numbers: random.Random) -> None:
    place = _place(content, numbers)
    content[place:place] = numbers.randbytes(numbers.choice((1, 4, 40)))


def _blank(content: bytearray, numbers: random.Random) -> None:
    place, size = _place(content, numbers), numbers.choice((4, 16, 64, 400))
    content[place : place + size] = bytes([numbers.choice((0, 255))]) * len(content[place : place + size])


def _swap(content: bytearray, numbers: random.Random) -> None:
    first, second, size = _place(content, numbers), _place(content, numbers), numbers.choice((4, 16, 100))
    if first + size <= second and second + size <= len(content):
        one, other = content[first : first + size], content[second : second + size]
        content[first : first + size], content[second : second + size] = other, one


_KINDS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip_bits, _set_field, _set_field, _set_box_size, _set_box_size, _rename_box, _truncate, _delete, _duplicate,
    _insert, _blank, _swap,
)  # fmt: skip

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 7, 10**3, 10**6, 10**9, 2**31, 2**63, 10**30, -(10**9), 0.0, -0.5, 0.5, 1.0,
    1e-300,
    1e300, float("nan"), float("inf"), float("-inf"), "", "x", "16", "1e9", "None", "../..", "\0", "\u202e",
    "x" * 10_000,
    [], [[]], [0], [16], [16, 16], [16, -16], [16, 16, 16], [0.5, 0.5, 0.5], ["a"], [None], [10**9, 10**9], {},
    {"a": 1},
    {"0": "a", "1": "b"}, {"0": ["a"]}, {"-1": "a"}, {"x": "y"}, {"0": None}, list(range(2000)),
)  # fmt: skip


def mutate_json(values: dict[str, Any], numbers: random.Random) -> dict[str, Any]:
    """Return a JSON object of which one to four fields have odd values, are missing, or are new."""
    made = copy.deepcopy(values)
    for _ in range(numbers.choice((1, 1, 2, 4))):
        name = numbers.choice(sorted(made) or ["a"])
        kind = numbers.random()
        if kind < 0.1:
            made.pop(name, None)
        elif kind < 0.2:
            made[numbers.choice(("x", "dtype", "torch_dtype", "architectures", "auto_map", "_name_or_path"))] = (
                numbers.choice(ODD_VALUES)
            )
        elif kind < 0.3 and isinstance(made[name], int | float) and not isinstance(made[name], bool):
            made[name] = made[name] * numbers.choice((-1, 0, 2, 1000, 10**6, 0.5))
        else:
            made[name] = copy.deepcopy(numbers.choice(ODD_VALUES))
    return made


def odd_json_text(values: dict[str, Any], numbers: random.Random) -> bytes:
    """Return JSON that is damaged as a text, or is valid and strange as a whole."""
    text = json.dumps(values).encode()
    depth = 10 ** numbers.randint(2, 5)
    strange = (
        b"", b"null", b"[]", b"3", b'"x"', b"{}", b"{", b"\xff\xfe{}", text[: numbers.randrange(len(text))],
        text + text,
        b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"{" + b'"a": 1,' * depth + b'"a": 1}',
        text.replace(b"{", b'{"a": 1' + b"0" * 5000 + b", ", 1), text.decode().encode("utf-16"), b"\0" * 100,
    )  # fmt: skip
    return mutate_bytes(text, numbers) if numbers.random() < 0.5 else numbers.choice(strange)
