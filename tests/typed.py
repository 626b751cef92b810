"""What type checkers see of the public names: `make lint` runs mypy on this file, nothing runs the file."""

from typing import assert_type

import adapcli
import policies
from adapcli.search import SearchResult
from policies.base import StoredPolicy
from policies.table import OutcomeTable

model = adapcli.load("m.pt")
assert_type(model, adapcli.AdaPerceiver)
assert_type(adapcli.flops(model.config, model.full_configuration), int)
table = adapcli.sweep(model, "folder:X", run="R")
assert_type(table, OutcomeTable)
assert_type(adapcli.search(table, flops_target=0.7), SearchResult)
assert_type(policies.train("threshold", table).policy, StoredPolicy)
assert_type(policies.load("policies/threshold"), StoredPolicy)
