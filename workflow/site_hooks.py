"""What the documentation site has beyond its Markdown: generated tables, and equations as MathML.

MkDocs calls these functions while it builds (mkdocs.yml, hooks). MathML is drawn by the browser
itself, so that pages need no script and no network.
"""

from __future__ import annotations

import html
import re
from typing import Any

import click
import paper_index
from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
CELL = re.compile(r"<td.*?</td>", re.DOTALL)
CODE = re.compile(r"<code>(.*?)</code>")
INCLUDE = re.compile(r"<!-- include: (\S+)(?: (\w+))? -->\n.*?<!-- end of include -->", re.DOTALL)
BREAKS = re.compile(r"([/_]|\.(?![a-z]{2,4}$))(?=.)")
ELSEWHERE = re.compile(r'<(?:script|img|link|iframe)\b[^>]*(?:src|href)="(?:https?:)?//[^"]*"')
# A function's name and its argument: the converter leaves no space between them.
APPLIED = re.compile(r"<mi>(log|exp)</mi>(?!<mo)")
WIDTH: dict[str, Any] = {"terminal_width": 80}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put generated text and files in the places of their markers.

    ``<!-- generated: name -->``, and ``<!-- include: file[:section] [language] -->`` up to
    ``<!-- end of include -->``: what stands between them, a link, is what other readers of
    Markdown show. A file without a language is Markdown itself.
    """
    markdown = INCLUDE.sub(_snippet, markdown)
    return re.sub(r"<!-- generated: (\w+) -->", lambda match: GENERATORS[match[1]](), markdown)


def on_page_content(content: str, **_: Any) -> str:
    """TeX formulas to MathML; code in tables breaks behind / . and _ alone."""
    content = FORMULA.sub(_mathml, content)
    return CELL.sub(lambda cell: CODE.sub(_breakable, cell[0]), content)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Refuse what a reader's browser would load from elsewhere."""
    if elsewhere := ELSEWHERE.search(output):
        raise PluginError(f"{page.file.src_uri}: {elsewhere[0]}: the site must be read offline")
    return output


def _snippet(marker: re.Match[str]) -> str:
    """What pymdownx.snippets makes the file of."""
    text = f'--8<-- "{marker[1]}"'
    return f"```{marker[2]}\n{text}\n```" if marker[2] else text


def _breakable(code: re.Match[str]) -> str:
    return "<code>" + BREAKS.sub(r"\1<wbr>", code[1]) + "</code>"


def _mathml(match: re.Match[str]) -> str:
    tag, tex = match[1], html.unescape(match[2]).strip()
    formula = convert(tex, display="block" if tag == "div" else "inline")
    formula = APPLIED.sub(r'<mi>\1</mi><mspace width="0.17em"/>', formula)
    return f'<{tag} class="formula">{formula}</{tag}>'


def command_reference() -> str:
    """Markdown: the help of every command of ``mclr``."""
    from mclr.cli import cli

    context = click.Context(cli, info_name="mclr", **WIDTH, **cli.context_settings)
    parts = [f"```text\n{cli.get_help(context)}\n```"]
    for name in cli.list_commands(context):
        command = cli.commands[name]
        inner = click.Context(command, info_name=name, parent=context, **WIDTH)
        parts.append(f"## mclr {name}\n\n```text\n{command.get_help(inner)}\n```")
    return "\n\n".join(parts)


GENERATORS = {
    "equations": paper_index.equation_table,
    "figures": paper_index.figure_table,
    "commands": command_reference,
}
