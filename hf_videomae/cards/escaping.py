"""Escape names that come from data, so that Markdown shows them as they are.

A class or a file may be called `<script>`, `[here](http://...)`, `a | b` or hold line breaks. YAML headers need no
escaping here, because a YAML writer quotes by itself.
"""

import re

from ..text import escape_control_characters

# Characters that begin markup anywhere in a line; `_` within a word does not.
_MARKUP_CHARACTERS = re.compile(r"[\\`*\[\]~]|(?<!\w)_|_(?!\w)")
_HTML_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "$": "&#36;", "@": "&#64;"}
# Addresses become links even without markup.
_BARE_LINK = re.compile(r"://|\bwww\.", re.IGNORECASE)
_LINE_START = re.compile(r"^(?:[#+=-]|\d+[.)])")


def escape_to_one_line(text: object) -> str:
    """Return a text on one line: line breaks and control characters as escapes such as `\\n`."""
    return escape_control_characters(str(text).replace("\n", "\\n").replace("\t", " "))


def escape_markdown(text: object) -> str:
    """Return Markdown that shows a text literally, on one line."""
    shown = _MARKUP_CHARACTERS.sub(lambda match: f"\\{match[0]}", escape_to_one_line(text))
    shown = "".join(_HTML_ENTITIES.get(character, character) for character in shown)
    shown = _BARE_LINK.sub(lambda match: match[0].replace(":", "&#58;").replace(".", "&#46;"), shown)
    return _LINE_START.sub(lambda match: f"{match[0][:-1]}\\{match[0][-1]}", shown)


def code_span(text: object) -> str:
    """Return a text as inline code, between enough backticks for those that it contains."""
    shown = escape_to_one_line(text)
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * (longest + 1)
    space = " " if shown.startswith("`") or shown.endswith("`") or not shown else ""
    return f"{fence}{space}{shown}{space}{fence}"
