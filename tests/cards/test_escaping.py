"""Test that names from data are shown literally in Markdown."""

import re

import pytest
import yaml

from hf_videomae.cards import Ancestor, code_span, escape_markdown, escape_to_one_line, inherit_license, table
from hf_videomae.cards.markdown import code_block
from hf_videomae.serving.space import render_space_card
from hf_videomae.text import escape_control_characters

pytestmark = pytest.mark.fault
MARKUP = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</details>",
    "[here](https://evil.example.org)",
    "![x](https://evil.example.org/x.png)",
    "a | b",
    "*bold* _em_ ~~gone~~ `code_block`",
    "# heading",
    "1. list",
    "$\\frac{$ and $$x$$",
    "line\nbreak\r\nand\u2028more",
    "---\nlicense: mit\n---",
    "```\nfence",
    "https://evil.example.org www.evil.example.org @everyone",
    "&lt;b&gt;",
    "\x1b[31mred\x07 \u202eturned",
)


@pytest.mark.parametrize("name", MARKUP)
def test_escape_markdown_leaves_no_markup(name: str) -> None:
    shown = escape_markdown(name)
    assert len(shown.splitlines()) == 1 and not re.search(r"[<>|\x00-\x1f\u202e]", shown)
    assert not re.search(r"(?<!\\)[`*\[\]~]", shown) and "://" not in shown and "www." not in shown
    assert not re.match(r"#|\d+\. ", shown) and not re.search(r"&(?!#?\w+;)", shown)


@pytest.mark.parametrize("name", ["Playing_Guitar", "apply eye makeup", "a (b), c: d's", "走る", "class 10", "C++"])
def test_ordinary_names_are_unchanged(name: str) -> None:
    assert escape_markdown(name) == name and code_span(name) == f"`{name}`"


@pytest.mark.parametrize("name", [*MARKUP, "`", "``a`", ""])
def test_code_span_survives_backticks(name: str) -> None:
    shown = code_span(name)
    fence = re.match(r"`+", shown)
    assert fence and shown.endswith(fence[0]) and len(shown.splitlines()) == 1
    inside = shown[len(fence[0]) : -len(fence[0])]
    assert fence[0] not in re.findall(r"`+", inside) and escape_to_one_line(name) in inside


def test_table_keeps_columns_with_markup_in_cells() -> None:
    rows = [(escape_markdown(name), code_span(name), 1) for name in MARKUP]
    lines = (table(("class", "id", "videos"), rows) or "").splitlines()
    assert len(lines) == 2 + len(MARKUP)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {4}


def test_code_block_holds_text_with_fences() -> None:
    assert code_block("a\n```\nb", "bash") == "````bash\na\n```\nb\n````"


def test_control_characters_are_escaped() -> None:
    assert (
        escape_control_characters("a\x1b[31m\x9b\u202eb\ttab\nline é走\ud800")
        == "a\\x1b[31m\\x9b\\u202eb\ttab\nline é走\\ud800"
    )


def test_space_card_escapes_title_with_markup() -> None:
    title = 'A: "x"\n---\nsdk: docker\n# <b>'
    license = inherit_license([Ancestor(name="org/`<b>`", license="mit")])
    card = render_space_card(title=title, models=["org/model"], license=license)
    _, header, text = card.split("---\n", 2)
    fields = yaml.safe_load(header)
    assert fields["title"] == escape_to_one_line(title) and fields["sdk"] == "gradio"
    assert "<b>" not in re.sub(r"``.*?``", "", text) and text.count("\n# ") == 1
