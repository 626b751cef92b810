import json

import numpy as np
import pytest

from policies import base, registry
from policies.errors import FileError
from policies.transfer import Reference, kept
from policies.transfer.reference import NAME


@pytest.fixture
def folder(telling, tmp_path):
    table = telling()
    policy = registry.train("threshold", table, flops_target=0.5).policy
    base.save(policy, tmp_path)
    Reference.of(policy, table).save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("algo", ["gate", "threshold", "linear", "static"])
def test_what_is_kept_is_what_is_read(telling, tmp_path, algo):
    table = telling()
    policy = registry.train(algo, table, lambda_=0.3).policy
    base.save(policy, tmp_path)
    made = Reference.of(policy, table)
    made.save(tmp_path)
    found = kept(tmp_path)
    assert found.to_dict() == made.to_dict()
    assert bool(found.places) == (algo != "static")


def test_counts_are_exact(telling):
    table = telling()
    (place,) = Reference.of(registry.train("linear", table).policy, table).places
    for i, column in enumerate(place.columns):
        for split, below in column.below.items():
            values = table.features[table.rows(split), i].astype(float)
            np.testing.assert_array_equal(below, [(values <= edge).sum() for edge in column.edges])
            assert place.n[split] == len(values)


def test_policies_of_older_versions_have_none(folder):
    (folder / NAME).unlink()
    assert kept(folder) is None


def test_it_belongs_to_its_policy(folder):
    content = json.loads((folder / "policy.json").read_text())
    content["parameters"]["tau"] /= 2
    (folder / "policy.json").write_text(json.dumps(content))
    with pytest.raises(FileError, match="does not belong to the policy"):
        kept(folder)


def change(content, path, value):
    *steps, last = path
    for step in steps:
        content = content[step]
    content[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["schema_version"], 2),
        (["n"], 3),
        (["n", "fit"], -1),
        (["places", 0, "configuration"], 10**9),
        (["places", 0, "configuration"], "0"),
        (["places", 0, "n", "fit"], 1),
        (["places", 0, "columns", 0, "edges", 0], 1e9),
        (["places", 0, "columns", 0, "edges", 0], None),
        (["places", 0, "columns", 0, "edges"], []),
        (["places", 0, "columns", 0, "below", "fit", 0], 10**6),
        (["places", 0, "columns", 0, "below"], {}),
        (["places", 0, "columns"], 5),
    ],
)
def test_what_is_no_reference_is_refused(folder, path, value):
    content = json.loads((folder / NAME).read_text())
    change(content, path, value)
    (folder / NAME).write_text(json.dumps(content))
    with pytest.raises(FileError, match=r"reference\.json"):
        kept(folder)
