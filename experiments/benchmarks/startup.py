"""What starting costs: `adap --help` against every import made first, `adap predict` against torch alone.

Prints medians and their ratios; `--json` prints one object. Run from the repository's root.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

HELP = "from adapcli.main import main; raise SystemExit(main(['--help']))"
EAGER = "import torch, pandas, matplotlib.pyplot, optuna, stable_baselines3; " + HELP
HEAVY = ("torch", "pandas", "matplotlib", "optuna", "stable_baselines3", "sklearn")
PREDICT = "from adapcli.main import main; raise SystemExit(main(['predict', 'a.png', '--quiet']))"
TORCH = "import torch"


def seconds(code: str, folder: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=folder)
    return time.perf_counter() - start


def medians(codes: tuple[str, str], repeats: int, folder: str) -> list[float]:
    """Alternating, so that a busy moment of the machine hits both; the first pair warms the disk cache."""
    pairs = [[seconds(code, folder) for code in codes] for _ in range(repeats + 1)][1:]
    return [statistics.median(column) for column in zip(*pairs, strict=True)]


def heavy_imports() -> list[str]:
    """Heavy modules that the help page imports; there should be none."""
    names = f"[name for name in {HEAVY} if name in sys.modules]"
    code = f"import json, sys; from adapcli.main import main; main(['--help']); print(json.dumps({names}))"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return json.loads(shown.splitlines()[-1])


def measure(repeats: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        Image.new("L", (32, 32), 90).save(Path(folder) / "a.png")
        lazy, eager = medians((HELP, EAGER), repeats, folder)
        torch, predict = medians((TORCH, PREDICT), repeats, folder)
    return {
        "schema_version": 2,
        "help_ms": round(1000 * lazy, 1),
        "eager_ms": round(1000 * eager, 1),
        "ratio": round(eager / lazy, 1),
        "heavy_imports": heavy_imports(),
        "import_torch_ms": round(1000 * torch, 1),
        "predict_ms": round(1000 * predict, 1),
        "predict_ratio": round(predict / torch, 2),
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
    print(f"adap predict of one image: {found['predict_ms']} ms, import torch: {found['import_torch_ms']} ms")
    print(f"ratio {found['predict_ratio']}")


if __name__ == "__main__":
    main()
