"""How long `adap --help` takes, against the same with every library imported first.

Prints medians in milliseconds and their ratio; `--json` prints one object. Run from the repository's root.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

LAZY = "from adapcli.main import main; raise SystemExit(main(['--help']))"
EAGER = "import torch, pandas, matplotlib.pyplot, optuna, stable_baselines3, sklearn; " + LAZY
HEAVY = ("torch", "pandas", "matplotlib", "optuna", "stable_baselines3", "sklearn")


def seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def heavy_imports() -> list[str]:
    """Heavy modules that the help page imports; there should be none."""
    names = f"[name for name in {HEAVY} if name in sys.modules]"
    code = f"import json, sys; from adapcli.main import main; main(['--help']); print(json.dumps({names}))"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return json.loads(shown.splitlines()[-1])


def measure(repeats: int) -> dict[str, object]:
    # Alternating, so that a busy moment of the machine hits both; the first pair warms the disk cache.
    pairs = [(seconds(LAZY), seconds(EAGER)) for _ in range(repeats + 1)][1:]
    lazy, eager = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "schema_version": 1,
        "help_ms": round(1000 * lazy, 1),
        "eager_ms": round(1000 * eager, 1),
        "ratio": round(eager / lazy, 1),
        "heavy_imports": heavy_imports(),
        "repeats": repeats,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.repeats)
    if options.json:
        print(json.dumps(found))
        return
    print(f"adap --help: {found['help_ms']} ms, everything imported first: {found['eager_ms']} ms")
    print(f"ratio {found['ratio']}; heavy modules imported for help: {found['heavy_imports'] or 'none'}")


if __name__ == "__main__":
    main()
