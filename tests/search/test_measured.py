"""Searching by latency and memory as `adap bench` measured them."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from adapcli.commands.objectives import milliseconds, size_bytes
from adapcli.errors import FileError, InfeasibleError, UsageError
from adapcli.main import main
from adapcli.search import SAMPLERS, SearchResult, Target, exhaustive, sampled
from adapcli.search.landscape import mean_scores
from adapcli.search.objectives import conditions_of, objective
from adapcli.search.target import amount
from policies.table import OutcomeTable, latency
from policies.table.latency import Condition

CPU = Condition(1, "cpu: A", "float32", 1, False)
BATCH = replace(CPU, batch=16)
GPU = Condition(1, "cuda: B", "bfloat16", 1, False)


def rows(medians, condition=CPU):
    """medians: configuration -> ms."""
    frame = pd.DataFrame({"configuration": list(medians), "median_ms": list(medians.values()), "rounds": 5})
    frame = frame.assign(q25_ms=0.9 * frame["median_ms"], q75_ms=1.1 * frame["median_ms"])
    frame = frame.assign(samples_per_s=1.0, peak_memory_bytes=1000 * (20 - frame["configuration"]))
    return frame.assign(**condition.to_dict())[list(latency.COLUMNS)]


def times(table, seed=0):
    return dict(enumerate(np.random.default_rng(seed).uniform(1, 9, table.n_configs).tolist()))


@pytest.fixture
def table(make_table):
    table = make_table(400)
    return replace(
        table, latency=pd.concat([rows(times(table)), rows(times(table, 1), BATCH)], ignore_index=True)
    )


def test_the_choice_is_the_best_within_the_limit(table):
    cost = np.array(list(times(table).values()))
    score = mean_scores(table, "calibration")
    for limit in np.quantile(cost, [0.1, 0.5, 0.9]):
        found = exhaustive(table, Target(limit=limit), objective=objective("latency", CPU))
        best = max((i for i in range(18) if cost[i] <= limit), key=lambda i: (score[i], -cost[i]))
        assert found.choice.index == best
        assert (found.choice.cost, found.unit, found.condition) == (cost[best], "ms", CPU)
        assert found.choice.cost_fraction == cost[best] / cost[table.full]


def test_each_condition_has_its_own_costs(table):
    small, large = (exhaustive(table, objective=objective("latency", c)) for c in (CPU, BATCH))
    assert small.full.cost == times(table)[table.full]
    assert large.full.cost == times(table, 1)[table.full]
    assert exhaustive(table, objective="latency") == small


def test_what_was_not_measured_is_not_eligible(table):
    some = {i: ms for i, ms in times(table).items() if i % 2 or i == table.full}
    fewer = replace(table, latency=rows(some))
    found = exhaustive(fewer, objective=objective("latency", CPU))
    assert found.eligible == len(some)
    assert {point.index for point in found.front} <= set(some)
    tried = sampled(fewer, objective=objective("latency", CPU), trials=100, sampler="random")
    assert tried.study.evaluated == len(some)
    assert tried.front == found.front


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_search_by_latency(table, sampler, tmp_path):
    given = {"objective": objective("latency", CPU), "sampler": sampler, "study": tmp_path / "s.log"}
    found = sampled(table, Target(limit=6.0), trials=18, **given)
    assert found.choice == exhaustive(table, Target(limit=6.0), objective=given["objective"]).choice
    assert found.study.hypervolume_regret == pytest.approx(0)
    with pytest.raises(FileError, match="target 6 ms, not target 5 ms"):
        sampled(table, Target(limit=5.0), trials=18, **given)


def test_out_of_reach_tells_the_range(table):
    with pytest.raises(InfeasibleError) as caught:
        exhaustive(table, Target(limit=0.5), objective=objective("latency", CPU))
    low, high = min(times(table).values()), max(times(table).values())
    assert caught.value.message == f"latency target 0.5 ms: the least is {amount(low, 'ms')} ({CPU})"
    told = caught.value.hint.split()
    assert float(told[4]) >= low
    assert float(told[7]) >= high
    again = exhaustive(table, Target(limit=float(told[4])), objective=objective("latency", CPU))
    assert again.choice.cost == low


def test_a_full_configuration_that_was_not_measured_is_told(table):
    some = {i: ms for i, ms in times(table).items() if i != table.full}
    with pytest.raises(FileError, match="full configuration's latency was not measured"):
        exhaustive(replace(table, latency=rows(some)), objective="latency")


def test_measurements_are_picked_by_batch_device_and_dtype(table):
    both = replace(table, latency=pd.concat([table.latency, rows(times(table), GPU)], ignore_index=True))
    assert conditions_of(both) == [CPU, BATCH, GPU]
    assert conditions_of(both, batch=1, device="CUDA") == [GPU]
    assert conditions_of(both, dtype="float32") == [CPU, BATCH]
    with pytest.raises(UsageError, match="nothing was measured at batch 16, device cuda") as caught:
        conditions_of(both, batch=16, device="cuda")
    assert str(CPU) in caught.value.hint
    with pytest.raises(FileError, match="no latency was measured"):
        conditions_of(replace(table, latency=None))


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf")])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(UsageError, match="above 0"):
        Target(limit=limit)


@pytest.mark.parametrize("given", [{"fraction": 0.5}, {"min_score": 0.5}])
def test_one_target_at_a_time(given):
    with pytest.raises(UsageError, match="exclude each other"):
        Target(limit=3.0, **given)


def test_a_result_is_kept_with_its_condition(table, tmp_path):
    found = exhaustive(table, Target(limit=9e3), objective=objective("memory", BATCH))
    found.save(tmp_path)
    assert SearchResult.load(tmp_path) == found
    assert "peak_memory_bytes" in found.frame()
    content = json.loads((tmp_path / "search.json").read_text())
    del content["condition"], content["eligible"]  # as earlier versions wrote it
    assert SearchResult.from_dict(content).choice == found.choice


def test_amounts_can_be_typed_back():
    for value in (1, 1023, 1024, 1_234_567, 3 * 2**30 + 1):
        assert size_bytes(amount(value, "bytes")) >= value
    assert amount(0.0123456, "ms") == "0.01235 ms"
    assert milliseconds("3.5ms") == milliseconds("3.5") == 3.5
    assert (size_bytes("512MiB"), size_bytes("1.5GB"), size_bytes("7B")) == (512 * 2**20, 1.5e9, 7)


@pytest.fixture
def run(table, tmp_path):
    table.save(tmp_path / "run" / "table")
    return tmp_path / "run"


def test_a_target_names_its_objective(adap, run):
    code, out, err = adap("--latency-target", 6)
    assert code == 0, err
    found = SearchResult.load(run / "search")
    assert found == exhaustive(
        OutcomeTable.load(run / "table"), Target(limit=6.0), objective=objective("latency", CPU)
    )
    assert f"choice: {found.choice.label}" in out
    assert "ms" in out
    assert f"latency as measured: {CPU}" in err
    code, out, _ = adap("--memory-target", "15kB", "--batch", 16, "--json", "--overwrite")
    content = json.loads(out)
    assert (content["unit"], content["condition"]["batch"], content["target"]["limit"]) == (
        "bytes",
        16,
        15000,
    )


def test_percent_of_a_measured_cost_is_of_the_full_configuration_s(adap, run):
    assert adap("--latency-target", "60%")[0] == 0
    found = SearchResult.load(run / "search")
    table = OutcomeTable.load(run / "table")
    assert found == exhaustive(table, Target(fraction=0.6), objective=objective("latency", CPU))
    assert found.choice.cost <= 0.6 * found.full.cost
    code, _, err = adap("--memory-target", "120%")
    assert (code, "write 0.7 or 70%" in err) == (2, True)


def test_disagreement_with_flops_is_warned_of_and_in_the_json(adap, make_table, run):
    _, out, err = adap("--json", "--quiet")
    warnings = json.loads(out)["warnings"]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"FLOPs and latency disagree ({CPU})")
    assert f"warning: {warnings[0]}" in err
    table = OutcomeTable.load(run / "table")
    in_order = {i: float(cost) for i, cost in enumerate(table.cost_flops)}
    latency.save(run / "table", rows(in_order), 18, overwrite=True)
    _, out, err = adap("--json", "--quiet")
    assert (json.loads(out)["warnings"], err) == ([], "")


def test_the_latest_of_several_is_taken_and_said(adap, run):
    table = OutcomeTable.load(run / "table")
    latency.save(run / "table", rows(times(table), GPU), 18)
    _, _, err = adap("--latency-target", 6)
    assert f"latency as measured: {GPU}" in err
    assert f"also measured: {CPU}" in err
    _, _, err = adap("--latency-target", 6, "--device", "cpu", "--overwrite")
    assert f"latency as measured: {CPU}" in err
    assert "also measured" not in err


def test_missing_configurations_are_counted(adap, run):
    table = OutcomeTable.load(run / "table")
    some = {i: ms for i, ms in times(table).items() if i % 2 or i == table.full}
    latency.save(run / "table", rows(some), 18, overwrite=True)
    code, out, _ = adap("--objective", "latency")
    assert code == 0
    assert f"of {len(some)} configurations; {18 - len(some)} more were not measured" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--latency-target", "nan"], 2, "expected milliseconds above 0: write 3.5"),
        (["--latency-target", "inf"], 2, "expected milliseconds above 0"),
        (["--latency-target", "0"], 2, "expected milliseconds above 0"),
        (["--latency-target", "-2"], 2, "expected milliseconds above 0"),
        (["--latency-target", "5s"], 2, "expected milliseconds above 0"),
        (["--memory-target", "512"], 2, "expected a size with its unit: write 512MiB"),
        (["--memory-target", "0MiB"], 2, "expected a size with its unit"),
        (["--memory-target", "-1GB"], 2, "expected a size with its unit"),
        (["--memory-target", "1e9B"], 2, "expected a size with its unit"),
        (["--objective", "watts"], 2, "allowed are flops, latency, memory"),
        (["--latency-target", "5", "--flops-target", "0.5"], 2, "exclude each other"),
        (["--latency-target", "5", "--memory-target", "1MB"], 2, "exclude each other"),
        (["--latency-target", "5", "--min-score", "0.5"], 2, "exclude each other"),
        (["--latency-target", "5", "--objective", "flops"], 2, "goes with --objective latency"),
        (["--batch", "1"], 2, "add --objective latency"),
        (["--objective", "latency", "--batch", "4"], 2, "nothing was measured at batch 4"),
        (["--objective", "latency", "--device", "cuda"], 2, "nothing was measured at batch 1, device cuda"),
        (["--latency-target", "0.1"], 5, "the least is"),
        (["--memory-target", "1B"], 5, "choose a target from"),
    ],
)
def test_wrong_arguments(adap, run, arguments, code, message):
    found, out, err = adap(*arguments)
    assert (found, out) == (code, ""), err
    assert message in " ".join(err.split())
    assert not (run / "search").exists()


def test_without_a_bench_the_command_that_makes_one_is_named(make_table, tmp_path, capsys):
    make_table(200).save(tmp_path / "table")
    given = ["search", "--run", str(tmp_path)]
    assert main([*given, "--latency-target", "5"]) == 3
    assert f"adap bench --run {tmp_path}` first" in capsys.readouterr().err
    assert main([*given, "--objective", "memory"]) == 0  # the table's estimate
    assert "memory is estimated" in capsys.readouterr().err


def test_damaged_measurements_stop_a_search_by_latency_alone(adap, run):
    (run / "table" / "latency.csv").write_text("configuration,batch\n0,1\n")
    code, _, err = adap("--latency-target", 5)
    assert code == 3
    assert "column device is missing" in err
    code, _, err = adap("--flops-target", 0.7)
    assert code == 0
    assert "warning: the measured latencies cannot be used" in err
