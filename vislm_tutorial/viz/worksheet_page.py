"""A worksheet as one HTML page: pictures in a grid, sentences, statements, the answers at the end.

Boxes are form fields, so a pupil fills them in on a screen as on paper. There is no script.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from torch import Tensor

from ..data.images import to_pil

if TYPE_CHECKING:
    from ..worksheet import Statement

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --line: #767676; --card: #f4f4f2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e6; --paper: #17191c; --line: #8d9299; --card: #23262a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.25rem; background: var(--paper);
  color: var(--ink); font: 1.05rem/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .75rem; font-size: 1.6rem; line-height: 1.2; }
h2 { margin: 2rem 0 .25rem; font-size: 1.2rem; }
h2 + p, .answers h2 { margin-top: 0; }
.who { display: flex; flex-wrap: wrap; gap: .5rem 2rem; }
.who label { display: flex; gap: .5rem; align-items: baseline; flex: 3 1 14rem; }
.who label + label { flex: 1 1 9rem; }
input[type="text"] { min-width: 0; border: 0; border-bottom: 2px solid var(--line);
  background: none; color: inherit; font: inherit; border-radius: 0; }
.who input { flex: 1; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(11rem, 45%), 1fr));
  gap: 1rem; margin: 1rem 0; padding: 0; list-style: none; }
.pictures img { display: block; width: 100%; height: auto; border: 1px solid var(--line); }
.pictures img.pixels { image-rendering: pixelated; }
.pictures label { display: flex; justify-content: center; align-items: baseline; gap: .5rem;
  padding-top: .35rem; }
.pictures input { width: 2.5rem; text-align: center; text-transform: uppercase; }
.sentences { columns: 20rem; column-gap: 2rem; padding-left: 2rem; list-style: upper-alpha; }
.sentences li { break-inside: avoid; padding: .15rem 0 .15rem .25rem; }
.statements { padding-left: 2rem; }
.statements li { padding: .3rem 0 .3rem .25rem; break-inside: avoid; }
fieldset { display: flex; flex-wrap: wrap; gap: 0 1rem; margin: 0; padding: 0; border: 0; }
legend { float: left; flex: 1 1 18rem; padding: 0; }
.choices { display: flex; gap: 1.25rem; }
.choices label { display: flex; align-items: baseline; gap: .4rem; }
details { margin-top: 2.5rem; padding: .6rem 1rem; border-radius: .5rem; background: var(--card); }
summary { cursor: pointer; font-weight: 600; }
details.answers > summary + h2 { margin-top: 1rem; }
.answers li { break-inside: avoid; }
.paper { display: none; }
:focus-visible { outline: 3px solid #2f6fde; outline-offset: 2px; }
@media print {
  @page { size: A4; margin: 13mm; }
  :root { color-scheme: light; --ink: #000; --paper: #fff; --line: #555; }
  body { max-width: none; padding: 0; font-size: 11pt; line-height: 1.4; }
  h2 { margin-top: 1.1rem; }
  .sentences { columns: 2; }
  .statements li { padding-block: .15rem; }
  .pictures { grid-template-columns: repeat(4, 1fr); gap: .6rem 1rem; margin: .5rem 0; }
  .pictures li { break-inside: avoid; }
  .pictures img { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  h2, h2 + p { break-after: avoid; }
  details { display: none; }
  .paper { display: block; break-before: page; }
}
"""


def page(
    title: str,
    images: Tensor,
    sentences: Mapping[str, str],
    matches: Mapping[int, str],
    statements: Sequence[Statement],
) -> str:
    """A whole HTML page that loads nothing.

    Args:
        title: the heading.
        images: (N, 3, H, W) in [-1, 1], picture 1 first.
        sentences: letter -> caption, A first.
        matches: number of a picture -> letter of its sentence.
        statements: about the pictures, in their order on the sheet.
    """
    pictures = "\n".join(_picture(n, image) for n, image in enumerate(images, 1))
    lettered = "\n".join(f"<li>{_sentence(text)}</li>" for text in sentences.values())
    asked = "\n".join(_question(n, s) for n, s in enumerate(statements, 1))
    answers = _answers(sentences, matches, statements)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
<form autocomplete="off">
<div class="who"><label>Name <input type="text"></label>
<label>Date <input type="text"></label></div>
<h2>1. Which sentence belongs to which picture?</h2>
<p>Write the letter of the sentence under its picture.</p>
<ol class="pictures">
{pictures}
</ol>
<ol class="sentences">
{lettered}
</ol>
<h2>2. True or false?</h2>
<p>Look at the picture with that number again.</p>
<ol class="statements">
{asked}
</ol>
</form>
<details class="answers"><summary>Answers</summary>
{answers}
</details>
<section class="answers paper"><h1>Answers</h1>
{answers}
</section>
</main>
</body>
</html>
"""


def _picture(number: int, image: Tensor) -> str:
    small = ' class="pixels"' if image.shape[-1] < 128 else ""  # a few pixels stay sharp squares
    side = image.shape[-1]
    # What the picture shows is the question, so the text for those who cannot see it is its number.
    return (
        f'<li><img{small} src="{_png(image)}" width="{side}" height="{side}" '
        f'alt="Picture {number}: coloured shapes">'
        f'<label><b>{number}</b> <input type="text" maxlength="1" '
        f'aria-label="Letter of the sentence for picture {number}"></label></li>'
    )


def _png(image: Tensor) -> str:
    """(3, H, W) in [-1, 1] as a data URI; a JPEG would blur the edges."""
    content = io.BytesIO()
    to_pil(image).save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _sentence(caption: str) -> str:
    return escape(f"{caption[0].upper()}{caption[1:]}.")


def _question(number: int, statement: Statement) -> str:
    choices = "".join(
        f'<label><input type="radio" name="statement-{number}"> {word}</label>'
        for word in ("true", "false")
    )
    return (
        f"<li><fieldset><legend><b>Picture {statement.picture}:</b> {escape(statement.text)}"
        f'</legend><div class="choices">{choices}</div></fieldset></li>'
    )


def _answers(
    sentences: Mapping[str, str], matches: Mapping[int, str], statements: Sequence[Statement]
) -> str:
    matched = "\n".join(
        f"<li><b>{letter}</b> {_sentence(sentences[letter])}</li>" for letter in matches.values()
    )
    judged = "\n".join(
        f"<li><b>{'true' if s.true else 'false'}</b>{'' if s.true else _correction(s)}</li>"
        for s in statements
    )
    return f"<h2>1. Pictures</h2>\n<ol>\n{matched}\n</ol>\n" + (
        f"<h2>2. Statements</h2>\n<ol>\n{judged}\n</ol>"
    )


def _correction(statement: Statement) -> str:
    """The true sentence, with the word that was exchanged set off."""
    correct, said = (text.rstrip(".").split() for text in (statement.correct, statement.text))
    pairs = zip(correct, said, strict=True)
    words = (escape(a) if a == b else f"<b>{escape(a)}</b>" for a, b in pairs)
    return f". Picture {statement.picture}: {' '.join(words)}."
