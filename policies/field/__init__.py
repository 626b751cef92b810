"""The field: every kind of policy, trained and judged alike on one table, and which one to take."""

from policies.field.entrant import Entrant, entrants
from policies.field.member import Member, Request
from policies.field.recommendation import Recommendation, recommend
from policies.field.result import Entry, Field
from policies.field.training import train_field

__all__ = [
    "Entrant",
    "Entry",
    "Field",
    "Member",
    "Recommendation",
    "Request",
    "entrants",
    "recommend",
    "train_field",
]
