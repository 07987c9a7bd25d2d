"""`python -m tests.corpus`: compile the corpus, check it, extract it as files, or write its index."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.corpus.build import DATA, INDEX, SCHEMA, compiled, differences, extract, index_text, schema_text
from tests.corpus.model import Case


def main() -> int:
    """0 done, 1 the committed data is not what compiles, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.corpus", description="Compile the attack and interop corpus."
    )
    wanted = parser.add_mutually_exclusive_group()
    wanted.add_argument("--check", action="store_true", help="compile and compare with the committed data")
    wanted.add_argument("--extract", metavar="DIR", type=Path, help="write the committed cases as files")
    wanted.add_argument("--docs", action="store_true", help="write docs/corpus.md from the committed data")
    options = parser.parse_args()
    if options.extract or options.docs:
        data = json.loads(DATA.read_text(encoding="utf-8"))
        cases = [Case.from_data(entry) for entry in data["cases"]]
        if options.docs:
            INDEX.write_text(index_text(cases), encoding="utf-8")
            return 0
        options.extract.mkdir(parents=True, exist_ok=True)
        inside, outside = extract(cases, data, options.extract)
        sys.stdout.write(f"{inside} cases in batch.jsonl, {outside} that a file cannot express\n")
        return 0
    fresh = compiled()
    if options.check:
        committed = DATA.read_text(encoding="utf-8") if DATA.exists() else ""
        lines = differences(committed, fresh)
        if not SCHEMA.exists() or SCHEMA.read_text(encoding="utf-8") != schema_text():
            lines.append("corpus.schema.json differs")
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        return 1 if lines else 0
    DATA.write_text(fresh, encoding="utf-8")
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    sys.stdout.write(f"{len(json.loads(fresh)['cases'])} cases\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
