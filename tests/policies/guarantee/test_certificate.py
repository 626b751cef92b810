import json
from dataclasses import replace

import numpy as np
import pytest

from policies import base, registry
from policies.baselines import Static
from policies.errors import FileError
from policies.grid import Grid
from policies.guarantee import Promise, certify, kept, told
from policies.guarantee.certificate import fingerprint
from policies.threshold import Threshold


@pytest.fixture
def certified(make_losing_table):
    table = make_losing_table([0.05, 0.004], [0.06, 0.008])
    policy, certificate = certify([Static(Grid.of(table), k) for k in range(2)], table, Promise(0.03))
    return table, policy, certificate


def test_it_says_what_the_calibration_samples_said(certified):
    table, policy, certificate = certified
    rows = table.rows("calibration")
    losses = table.score[rows, table.full] - table.score[rows, policy.configuration]
    assert certificate.certified
    assert certificate.n == len(rows)
    assert certificate.observed == pytest.approx(losses.mean())
    assert certificate.disagreement == pytest.approx((losses != 0).mean())
    assert certificate.observed < certificate.upper_bound <= certificate.limit == 0.03
    assert certificate.p_value <= 0.05
    assert certificate.saving == pytest.approx(
        1 - table.cost_flops[policy.configuration] / table.cost_flops[-1]
    )


def test_groups_add_up(make_table):
    table = make_table(4000)
    policy = Threshold(Grid.of(table), (0, 4, 17), 0.4)
    _, certificate = certify([policy], table, Promise(0.0), best_effort=True)
    groups, decision = certificate.groups, policy.select(table, table.rows("calibration"))
    assert not certificate.certified
    assert [g.n for g in groups] == sorted((g.n for g in groups), reverse=True)
    assert {g.configuration for g in groups} == set(decision.configuration.tolist())
    assert sum(g.share for g in groups) == pytest.approx(1)
    assert sum(g.share * g.loss.mean for g in groups) == pytest.approx(certificate.observed)
    assert all(g.loss.low <= g.loss.mean <= g.loss.high for g in groups)
    full = next((g for g in groups if g.configuration == table.full), None)
    assert full is None or full.loss.mean == 0


def test_it_is_kept_with_the_policy(certified, tmp_path):
    table, policy, certificate = certified
    base.save(policy, tmp_path / "p", certificate=certificate.to_dict())
    assert kept(tmp_path / "p") == certificate
    assert registry.load(tmp_path / "p", table) == policy
    base.save(policy, tmp_path / "plain")
    assert kept(tmp_path / "plain") is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c["parameters"].update(configuration=0), "does not belong to this policy"),
        (lambda c: c["grid"].update(feature_flops=9.0), "does not belong to this policy"),
        (lambda c: c["certificate"].pop("policy_sha256"), "does not belong to this policy"),
        (lambda c: c.update(certificate=[]), "does not belong to this policy"),
        (lambda c: c["certificate"].pop("limit"), "not a usable certificate"),
        (lambda c: c["certificate"].update(certified="yes"), "not a usable certificate"),
        (lambda c: c["certificate"].update(p_value="0.01"), "not a usable certificate"),
        (lambda c: c["certificate"].update(p_value=True), "not a usable certificate"),
        (lambda c: c["certificate"].update(n=-1), "not a usable certificate"),
        (lambda c: c["certificate"].update(n=10**400), "not a usable certificate"),
        (lambda c: c["certificate"].update(limit=1e-6), "is above the limit"),
        (lambda c: c["certificate"].update(p_value=0.2), "do not go together"),
        (lambda c: c["certificate"].update(certified=False), "do not go together"),
        (lambda c: c["certificate"].update(test="magic"), "not a usable certificate"),
        (lambda c: c["certificate"].update(groups=[{}]), "not a usable certificate"),
        (lambda c: c["certificate"].update(groups=3), "not a usable certificate"),
        (
            lambda c: c["certificate"]["groups"][0].update(loss={"mean": "x", "low": 0, "high": 1}),
            "not a usable",
        ),
        (lambda c: c["certificate"]["groups"][0].update(configuration=10**6), "not a usable"),
    ],
)
def test_a_changed_certificate_is_refused(certified, tmp_path, change, says):
    _, policy, certificate = certified
    base.save(policy, tmp_path, certificate=certificate.to_dict())
    content = json.loads((tmp_path / "policy.json").read_text())
    change(content)
    (tmp_path / "policy.json").write_text(json.dumps(content))
    with pytest.raises(FileError) as refused:
        kept(tmp_path)
    assert says in refused.value.message


def test_the_split_has_a_fingerprint_of_its_own(make_losing_table):
    table, other = make_losing_table([0.01]), make_losing_table([0.01], seed=1)
    assert fingerprint(table, "calibration") != fingerprint(table, "tune")
    assert fingerprint(table, "calibration") == fingerprint(other, "calibration")  # same names, same data
    renamed = table.take(np.arange(table.n_samples)[::-1])
    assert fingerprint(table, "calibration") != fingerprint(renamed, "calibration")


def test_in_words(certified):
    _, _, certificate = certified
    first, second, third = told(certificate, "accuracy")
    assert first == (
        "Certified with 95 % confidence: accuracy is less than 3 points below the full configuration's, "
        "on samples drawn like the 1 000 calibration samples."
    )
    assert f"p = {certificate.p_value:.2g}, exact trinomial test" in second
    assert third.startswith(f"Candidate {certificate.position} of {certificate.candidates}")
    missed = replace(certificate, certified=False, loss="answer")
    assert told(missed)[0].startswith("Not certified: that less than 3 % of the answers differ")
