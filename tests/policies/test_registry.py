import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

import policies
from policies import base, registry
from policies.baselines import Static
from policies.errors import FileError, UsageError
from policies.grid import Grid


@pytest.fixture
def kept(make_table, tmp_path):
    base.save(Static(Grid.of(make_table(40)), 3), tmp_path / "p")
    return tmp_path / "p"


@pytest.fixture(scope="module")
def kept_network(make_table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("net") / "p"
    base.save(policies.train("ppo", make_table(80), timesteps=256, n_envs=32).policy, folder)
    return folder


def edited(folder, change):
    content = json.loads((folder / "policy.json").read_text())
    change(content)
    (folder / "policy.json").write_text(json.dumps(content))


def test_names_and_typos(make_table):
    assert policies.names()[:3] == ["static", "random", "threshold"]
    assert {"knn", "linear", "supervised", "reinforce", "ppo", "a2c", "dqn"} <= set(policies.names())
    with pytest.raises(UsageError, match="'pppo': not known, did you mean 'ppo'") as refused:
        policies.train("pppo", make_table(40))
    assert "threshold" in refused.value.hint
    with pytest.raises(UsageError, match="static has no option timesteps"):
        policies.train("static", make_table(40), timesteps=5)
    assert policies.train("static", make_table(40), timesteps=None).policy.kind == "static"


def test_importing_and_loading_need_no_torch_and_no_gymnasium(kept, kept_network):
    lines = f"""
import sys, policies
heavy = ("torch", "gymnasium", "stable_baselines3", "pandas")
assert not any(name in sys.modules for name in heavy)
policies.load({str(kept)!r}), policies.load({str(kept_network)!r})
assert not any(name in sys.modules for name in heavy[:3])
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", lines], check=True, env={"PYTHONPATH": str(root)})
    with pytest.raises(AttributeError):
        _ = policies.nothing


class Payload:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def test_a_foreign_archive_is_refused_and_nothing_is_run(tmp_path):
    """As Stable-Baselines3 keeps models: a zip whose parts hold pickled objects."""
    path, mark = tmp_path / "model.zip", tmp_path / "ran"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps({"policy_class": {":serialized:": "gASV"}}))
        archive.writestr("policy.pth", pickle.dumps(Payload(mark)))
    with pytest.raises(FileError, match=r"Stable-Baselines3.*nothing was run"):
        policies.load(path)
    (tmp_path / "p").mkdir()
    path.rename(tmp_path / "p" / "policy.json")
    with pytest.raises(FileError, match="not usable JSON"):
        policies.load(tmp_path / "p")
    assert not mark.exists()


def test_what_is_not_there_is_told(tmp_path, kept):
    with pytest.raises(FileError, match="no such policy folder"):
        policies.load(tmp_path / "none")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(FileError, match="a single file"):
        policies.load(tmp_path / "text")
    (kept / "policy.safetensors").unlink()
    with pytest.raises(FileError, match=r"policy\.safetensors: no such file"):
        policies.load(kept)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c.update(format="x"), "not a policy of this project"),
        (lambda c: c.update(schema_version=2), "schema_version 2"),
        (lambda c: c.update(kind="magic"), "kind 'magic' is not known"),
        (lambda c: c.update(kind="random"), "field 'probabilities' is missing"),
        (lambda c: c.pop("grid"), "field 'grid' is missing"),
        (lambda c: c.update(grid=[]), "not a usable policy"),
        (lambda c: c["grid"].update(cost_flops=[1.0]), "one finite number per configuration"),
        (lambda c: c["grid"].update(configurations=[[1]]), "do not fit their columns"),
        (lambda c: c["parameters"].update(configuration=18), "the grid has 18"),
        (lambda c: c["parameters"].update(configuration="x"), "not a usable policy"),
        (lambda c: c["parameters"].update(configuration=None), "not a usable policy"),
        (lambda c: c.update(parameters=None), "not a usable policy"),
        (lambda c: c.update(feature_names=["a"]), "feature_names do not fit"),
    ],
)
def test_changed_fields_are_refused(kept, change, told):
    edited(kept, change)
    with pytest.raises(FileError) as refused:
        policies.load(kept)
    assert told in refused.value.message


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c.update(kind="dqn"), "says it is dqn and ppo"),
        (lambda c: c["parameters"].update(layers=2), "does not fit"),
        (lambda c: c["parameters"].update(layers=9), "is missing"),
        (lambda c: c["parameters"].update(layers=0), "0 layers"),
        (lambda c: c["parameters"].update(prices=[1, 0]), "0 < low < high"),
        (lambda c: c["parameters"].update(prices=[1]), "not a usable policy"),
        (lambda c: c["parameters"].update(activation="exec"), "activation 'exec'"),
        (lambda c: c["parameters"].update({"lambda": -1}), "finite price"),
        (lambda c: c["parameters"]["actions"].update(lookup=[0]), "1 configurations for actions"),
        (lambda c: c["parameters"]["actions"]["lookup"].__setitem__(0, 99), "the grid has 18"),
        (lambda c: c["parameters"].update(feature_names=["a"]), "1 features"),
    ],
)
def test_changed_networks_are_refused(kept_network, tmp_path, change, told):
    for name in ("policy.json", "policy.safetensors"):
        (tmp_path / name).write_bytes((kept_network / name).read_bytes())
    policies.load(tmp_path)
    edited(tmp_path, change)
    with pytest.raises(FileError) as refused:
        policies.load(tmp_path)
    assert told in refused.value.message


def test_arrays_of_another_policy_are_refused(kept):
    (kept / "policy.safetensors").write_bytes(save({"layer0.weight": np.zeros((2, 2))}))
    with pytest.raises(FileError, match="does not belong"):
        policies.load(kept)


def test_options_are_those_of_the_algorithm():
    assert {"timesteps", "actions", "seed", "name"} <= set(registry.options("ppo"))
    assert "timesteps" not in registry.options("threshold")


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "..", ".hidden", "", "a\x00b", "a/b", "a\\b", "x" * 65, "a\n", " a"]
)
def test_names_that_are_no_folder_are_refused(name):
    with pytest.raises(UsageError, match="name"):
        base.check_name(name)


def test_names_that_are_folders():
    for name in ("ppo", "my [red] é", "a.b-c_d", "x" * 64):
        assert base.check_name(name) == name
