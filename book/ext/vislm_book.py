"""What the book adds to Sphinx: the repository's address, its own scripts, its running times."""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book"))

from address import address, site  # noqa: E402
from costs import RUNNING_TIMES, load, spoken_time  # noqa: E402

VENDOR = ROOT / "book" / "web" / "vendor"


def set_address(app: Sphinx, config: Config) -> None:
    """Point the repository and Colab buttons at the address in pyproject.toml."""
    config.html_theme_options |= {
        "repository_url": address(),
        "repository_branch": "main",
        "use_repository_button": True,
        "use_issues_button": True,
    }
    config.html_baseurl = site()


def use_own_scripts(app: Sphinx, config: Config) -> None:
    """Load MathJax, Mermaid and the widget scripts from this site, if vendor.py has them."""
    if not (VENDOR / ".complete").exists():
        logging.getLogger(__name__).info(
            "note: no scripts in book/web/vendor; the pages load them from a public CDN"
        )
        return
    config.mathjax_path = "vendor/mathjax/es5/tex-mml-chtml.js"
    config.mermaid_use_local = "vendor/mermaid/dist/mermaid.esm.min.mjs"
    config.nb_ipywidgets_js = {
        "widgets.js": {},
        "vendor/requirejs/require.js": {},
        "vendor/@jupyter-widgets/html-manager/dist/embed-amd.js": {},
    }


class RunningTimes(SphinxDirective):
    """`{running-times}`: the table of what each page cost to run, from the measurements."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(ROOT / RUNNING_TIMES))
        rows = [("Page", "Profile", "Time", "Peak memory", "Device")]
        for page, costs in sorted(load().items()):
            for profile, cost in sorted(costs.items(), reverse=True):
                title = page.removeprefix("book/").removesuffix(".ipynb")
                time, memory = spoken_time(cost["seconds"]), f"{cost['peak_gb']:.1f} GB"
                rows.append((title, profile, time, memory, cost["device"]))
        return [_table(rows)]


def _table(rows: list[tuple[str, ...]]) -> nodes.table:
    """A docutils table whose first row is its head."""
    group = nodes.tgroup(cols=len(rows[0]))
    group += [nodes.colspec(colwidth=1) for _ in rows[0]]
    head, body = nodes.thead(), nodes.tbody()
    for number, row in enumerate(rows):
        entries = [nodes.entry("", nodes.paragraph(text=cell)) for cell in row]
        (body if number else head).append(nodes.row("", *entries))
    group += [head, body]
    return nodes.table("", group)


def setup(app: Sphinx) -> dict:
    app.connect("config-inited", set_address)
    app.connect("config-inited", use_own_scripts)
    app.add_directive("running-times", RunningTimes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
