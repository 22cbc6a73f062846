"""Who draws what is asked: `python benchmarks/leaderboard.py [FILES...] -o leaderboard.md`.

Each file is the .json that `vislm evaluate -o` writes, as FILE or NAME=FILE; all must answer to the
same prompts. Without files: the shipped weights, those of single chapters, and all that lies in
book/results/exact_eval. Prints the page, or writes it.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from vislm_tutorial.evaluation import leaderboard_page, load_results

ROOT = Path(__file__).resolve().parents[1]
ENTRIES = "book/results/exact_eval"
PAGE = "book/08_trends/leaderboard.md"
YOURS = f"""\
## Who is who

*Ceiling*: real renders of what is asked. *By rule* and *by chance*: the two functions of
{{doc}}`05_a_benchmark`. *Shipped weights*: those of the package, in 40 steps, and in 20 and 10. The
others are the weights of single pages: {{doc}}`../02_concepts/04_vae` (cvae),
{{doc}}`../02_concepts/05_gan` (cgan), {{doc}}`../02_concepts/06_pixelcnn` (pixelcnn) and
{{doc}}`../02_concepts/07_image_gpt` (image_gpt).

## Yours

Write a function of captions and a seed that returns pictures, as {{doc}}`05_a_benchmark` does, then

    vislm evaluate --pipeline file.py:function --name NAME -o {ENTRIES}/NAME
    python benchmarks/leaderboard.py -o {PAGE}
"""


def books_own() -> list[str]:
    """What the book's page is made of, as NAME=FILE."""
    chapters = sorted((ROOT / "book" / "weights").glob("*/exact_eval.json"))
    entries = sorted((ROOT / ENTRIES).glob("*.json"))
    return [
        f"shipped weights={ROOT / 'vislm_tutorial' / 'weights' / 'exact_eval.json'}",
        *(f"{file.parent.name}={file}" for file in chapters),
        *map(str, entries),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", metavar="FILE", help="FILE, or NAME=FILE")
    parser.add_argument("-o", "--output", type=Path, help="where to write the page")
    options = parser.parse_args()
    try:
        page = leaderboard_page(load_results(options.files or books_own()))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    command = shlex.join(["python", "benchmarks/leaderboard.py", *sys.argv[1:]])
    page += ("" if options.files else f"\n{YOURS}") + f"\nMade by `{command}`.\n"
    if options.output is None:
        print(page)
        return
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page, encoding="utf-8")
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
