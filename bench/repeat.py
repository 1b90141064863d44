"""Run the benches in several fresh processes: ``python -m bench.repeat --out FOLDER [-n 5] [pytest's options]``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Run pytest again and again; each run writes a JSON file, which ``bench.report`` merges."""
    parser = argparse.ArgumentParser(prog="python -m bench.repeat", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the JSON files")
    parser.add_argument("-n", type=int, default=5, help="number of processes")
    given, options = parser.parse_known_args()
    given.out.mkdir(parents=True, exist_ok=True)
    named = any(Path(option.partition("::")[0]).exists() for option in options)
    failed = False
    for i in range(given.n):
        path = given.out / f"run{i + 1}.json"
        command = [sys.executable, "-m", "pytest", "-q", f"--benchmark-json={path}", *options]
        command += [] if named else ["bench"]
        print(f"{i + 1} of {given.n}: {' '.join(command[1:])}", flush=True)
        failed |= subprocess.run(command, check=False).returncode != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
