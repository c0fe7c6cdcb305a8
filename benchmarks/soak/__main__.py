"""Every fault in its full form, and the figures that `docs/reliability.md` holds.

    python -m benchmarks.soak [--only ROW …] [--short]

Takes under 60 minutes on two idle cores. The figures go to `benchmarks/results/soak.json`, each
row with the conditions it was measured under, and from there into the document's table; a row
that is not run again keeps what it had. The exit code is 1 where a row did not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.soak.rows import ROWS
from benchmarks.soak.table import RESULTS, Row, write_table


def main() -> int:
    """Run what was asked for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[*ROWS], default=[*ROWS], metavar="ROW")
    parser.add_argument("--short", action="store_true", help="Short forms; nothing is written.")
    asked = parser.parse_args()
    held = True
    for name in asked.only:
        print(f"{name} …", flush=True)
        load, begin = os.getloadavg()[0], time.monotonic()
        with tempfile.TemporaryDirectory(prefix="fer-soak-") as folder:
            row = ROWS[name](Path(folder), asked.short)
        row.minutes = round((time.monotonic() - begin) / 60, 1)
        row.conditions = f"{os.cpu_count()} cores, load {load:.1f} before"
        row.at = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        print(f"  {row.measured} [{row.minutes} min, {row.conditions}]", flush=True)
        for sentence in row.wrong:
            print(f"  WRONG: {sentence}", flush=True)
        held &= not row.wrong
        if not asked.short:
            keep(name, row)
    if not asked.short:
        write_table()
    return 0 if held else 1


def keep(name: str, row: Row) -> None:
    """Put a row's figures beside those of the others."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known[name] = row.to_json()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(known, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
