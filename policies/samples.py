"""What few samples can tell, in words: intervals beside every choice they make, and how to have more."""

from policies.errors import FileError
from policies.table import OutcomeTable
from policies.table.schema import SPLITS
from policies.texts import count

FEW = 1000
"""Below this a mean of answers right or wrong is known to about 2 points, which is more than is asked for."""
LARGEST_SHARE = 999_999
"""`--split` reads up to six digits."""


def split_option(table: OutcomeTable, **wanted: int) -> str:
    """`--split F:T:C:E` that gives so many samples to the splits in `wanted`, by name.

    The others give up at most half of theirs; where that is too little, it says how many it takes in all.
    """
    now = {split: len(table.rows(split)) for split in SPLITS}
    goal = now | {split: max(count, now[split]) for split, count in wanted.items()}
    others = sum(count for split, count in now.items() if split not in wanted)
    rest = sum(now.values()) - sum(goal[split] for split in wanted)
    enough = rest >= others / 2
    if enough and others:
        goal |= {split: count * rest // others for split, count in now.items() if split not in wanted}
    total, shares = sum(goal.values()), [max(1, count) for count in goal.values()]
    while max(shares) > LARGEST_SHARE:
        shares = [max(1, share // 10) for share in shares]
    told = f"--split {':'.join(map(str, shares))}"
    return told if enough else f"{told} of {count(total, 'sample')} in all"


def few(table: OutcomeTable, split: str) -> str:
    """A clause on a split of fewer than `FEW` samples, with the option that gives more; else nothing."""
    n = len(table.rows(split))
    if not n:
        raise FileError(f"the outcome table has no samples in split {split}")
    if n >= FEW:
        return ""
    more = split_option(table, **{split: FEW})
    told = f"only {count(n, f'{split} sample')}, too few to show small differences"
    return f"{told} (for more, sweep again with --overwrite {more})"
