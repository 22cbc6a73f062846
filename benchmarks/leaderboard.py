"""Who draws what is asked: `python benchmarks/leaderboard.py FILES... -o leaderboard.md`.

Each file is the .json that `vislm evaluate -o` writes, as FILE or NAME=FILE; all must answer to the
same prompts. Prints the page, or writes it.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from vislm_tutorial.evaluation import leaderboard_page, load_results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE", help="FILE, or NAME=FILE")
    parser.add_argument("-o", "--output", type=Path, help="where to write the page")
    options = parser.parse_args()
    try:
        page = leaderboard_page(load_results(options.files))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    command = shlex.join(["python", "benchmarks/leaderboard.py", *sys.argv[1:]])
    page += f"\nMade by `{command}`.\n"
    if options.output is None:
        print(page)
        return
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page, encoding="utf-8")
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
