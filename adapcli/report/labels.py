"""What configurations and scores are called."""

import pandas as pd

from policies.table import OutcomeTable, schema

SHORT = {"tokens": "t", "width": "w", "depth": "l"}


def configuration(configs: pd.DataFrame, index: int) -> str:
    """ "t8 w64 l4"; columns that do not vary and are no axis are left out."""
    return readable(
        " ".join(f"{SHORT.get(n, n + '=')}{configs[n].iloc[index]}" for n in identifying(configs))
    )


def configuration_long(configs: pd.DataFrame, index: int) -> str:
    """ "t=8, w=64, l=4"."""
    return readable(", ".join(f"{SHORT.get(n, n)}={configs[n].iloc[index]}" for n in identifying(configs)))


def identifying(configs: pd.DataFrame) -> list[str]:
    """The axes, and every other id column that varies; the first one if there is nothing else."""
    names = schema.id_columns(configs)
    return [n for n in names if n in SHORT or configs[n].nunique() > 1] or names[:1]


def readable(text: str) -> str:
    """`text` with control characters, and bytes of file names that are no text, written as escapes."""
    return "".join(c if c.isprintable() or c == "\u00a0" else ascii(c)[1:-1] for c in text)


def score_name(table: OutcomeTable) -> str:
    """What the score is: accuracy where there are classes, else as the table says.

    Without labels it is the agreement with the full configuration, and nothing is an accuracy.
    """
    if not table.labelled:
        return "agreement with full"
    return "accuracy" if table.prediction is not None else str(table.meta.get("score_name", "score"))


def opening(text: str) -> str:
    """At the start of a sentence; what is in capitals further on stays so: "Image IoU"."""
    return text[:1].upper() + text[1:]


def plural(count: int, singular: str, several: str = "") -> str:
    """ "1 sample", "2 000 samples"."""
    return f"{number(count)} {singular if count == 1 else several or singular + 's'}"


def number(count: int) -> str:
    """Thousands apart: "20 000"."""
    return f"{count:,}".replace(",", " ")
