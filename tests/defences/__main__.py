"""Take defences away by hand: `python -m tests.defences [NAME…]`; without names, all.

`--whole` runs their tests on the unchanged program instead.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.defences.table import load
from tests.defences.workshop import Copy, all_pass, take_away


def main() -> int:
    names = [name for name in sys.argv[1:] if name != "--whole"]
    table = load()
    chosen = [table[name] for name in names] or list(table.values())
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, Copy(Path(folder) / "copy") as copy:
        if "--whole" in sys.argv:
            all_pass(copy, chosen)
            print("all pass")
            return 0
        for defence in chosen:
            begin = time.monotonic()
            try:
                told = take_away(copy, defence)
            except AssertionError as error:
                wrong += 1
                told = f"WRONG: {error}"
            print(f"{defence.name} ({time.monotonic() - begin:.0f} s)\n{told}\n", flush=True)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
