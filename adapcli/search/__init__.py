"""Choose the configurations worth running: all are looked at, or a sample where there are too many."""

from adapcli.search.exhaustive import exhaustive
from adapcli.search.landscape import Landscape
from adapcli.search.objectives import OBJECTIVES, Objective
from adapcli.search.result import Point, SearchResult, StudySummary, chosen_in
from adapcli.search.sampled import SAMPLERS, sampled
from adapcli.search.target import Target

__all__ = [
    "OBJECTIVES",
    "SAMPLERS",
    "Landscape",
    "Objective",
    "Point",
    "SearchResult",
    "StudySummary",
    "Target",
    "chosen_in",
    "exhaustive",
    "sampled",
]
