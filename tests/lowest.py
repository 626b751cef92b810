"""Prints the lowest versions that pyproject.toml allows, one `name==version` a line, for `make test-lowest`.

torch is left out (another release of it is gigabytes to fetch, and the extras `timm` and `hf` go with it);
tools for tests alone stay at the versions of constraints.txt.
"""

import re
import tomllib
from pathlib import Path

LEFT_OUT, TOOLS = (
    ("timm", "hf", "dev"),
    ("pytest", "pytest-timeout", "hypothesis", "moocore", "torchmetrics", "build"),
)
ROOT = Path(__file__).parent.parent


def pins() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *(r for name in extras if name not in LEFT_OUT for r in extras[name])]
    floors = dict(re.match(r"([\w.-]+)>=([\d.]+)", requirement).groups() for requirement in asked)
    floors.pop("torch")
    kept = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
    tools = {name: version for name, version in kept if name.lower() in (*TOOLS, "hatchling", "scikit-learn")}
    return [f"{name}=={version}" for name, version in sorted((floors | tools).items())]


if __name__ == "__main__":
    print("\n".join(pins()))
