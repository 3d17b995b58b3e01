"""A model's card on a page: ``card.md`` where the model has one, else ``card.json`` as it is.

Neither needs torch to be read. HTML inside the card stays text.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

from bae import storage
from bae.errors import ModelError

CARD, READABLE = "card.json", "card.md"
DEEPER = 2
"""Levels that the card's headings sink by: its title stands below a heading of the page."""


TABLE = (
    '<div class="wide" tabindex="0" role="region" aria-label="Table: model card">'
    '<table class="card">'
)


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a page shows of a model.

    Attributes:
        html: the readable card; None where the model has none.
        values: what ``card.json`` holds.
    """

    model_id: str
    html: str | None
    values: dict[str, Any]


def read(model_uri: str) -> Card:
    """Read a model's card.

    Raises:
        ModelError: no such folder, or no card in it.
    """
    place = storage.normal(model_uri)
    data = storage.read_or_none(storage.join(place, CARD))
    if data is None:
        raise ModelError(f"no model at {model_uri}: {CARD} is missing")
    try:
        values: dict[str, Any] = json.loads(data)
        model_id = str(values["model_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"the {CARD} of {model_uri} cannot be understood") from error
    page = storage.read_or_none(storage.join(place, READABLE))
    readable = None if page is None else html(page.decode("utf-8", "replace"))
    return Card(model_id=model_id, html=readable, values=values)


def html(markdown: str) -> str:
    """Return a card in Markdown as HTML with names for tables and a key's way to what scrolls."""
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    renderer.disable(["image", "link", "autolink"])  # a page asks nothing from outside
    renderer.add_render_rule("table_open", lambda *_: TABLE)
    renderer.add_render_rule("table_close", lambda *_: "</table></div>")
    renderer.add_render_rule("fence", _fence)
    tokens = renderer.parse(markdown)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + DEEPER, 6)}"
        if token.type == "th_open":
            token.attrSet("scope", "col")
    text: str = renderer.renderer.render(tokens, renderer.options, {})
    return text


def _fence(
    self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: Any
) -> str:
    code = self.code_block(tokens, index, options, env).replace("<pre>", '<pre tabindex="0">', 1)
    return f"<details><summary>show</summary>{code}</details>"
