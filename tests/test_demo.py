"""`adap demo`: the four commands, from nothing to a report; interrupted, and gone on with."""

import json

import pytest
import torch

import adapcli
import policies
from adapcli.console import Console
from adapcli.main import main
from adapcli.model.preprocessing import Preprocessing

torch.set_num_threads(1)

SMALL = {
    "embed_dim": 16,
    "num_heads": 2,
    "depth": 2,
    "max_latent_tokens": 4,
    "token_granularities": (1, 2, 4),
    "widths": (8, 16),
    "image_size": 16,
    "patch_size": 8,
    "in_channels": 1,
    "num_classes": 10,
    "use_embed_ffn": False,
}


@pytest.fixture
def demo(tmp_path, monkeypatch, capsys):
    """`adap demo` in an empty folder, with a small random model as the packaged one, and little training."""
    train = policies.train

    def quick(algo, table, **given):
        return train(algo, table, **(given | ({"timesteps": 2048} if algo == "ppo" else {})))

    monkeypatch.setattr(policies, "train", quick)
    torch.manual_seed(0)
    preprocessing = Preprocessing(16, 16, (0.2,), (0.4,))
    model = adapcli.AdaPerceiver(adapcli.ModelConfig(**SMALL), preprocessing=preprocessing)
    adapcli.save(model, tmp_path / "m.pt")
    monkeypatch.setattr("adapcli.model.checkpoint.packaged", lambda: tmp_path / "m.pt")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setenv("ADAP_RUN", "elsewhere")

    def run(*words):
        code = main(["demo", "--limit", "400", *words])
        return code, *capsys.readouterr()

    return run


@pytest.mark.slow
def test_the_demo_makes_a_report_and_can_be_interrupted_and_repeated(demo, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("adapcli.search.exhaustive", stop)
        code, _, err = demo()
    assert code == 130
    assert "continue with: python -m adapcli demo --limit 400 --resume" in err
    run = tmp_path / "empty" / "adap-demo"
    before = (run / "table" / "meta.json").stat().st_mtime_ns
    code, out, err = demo("--resume")
    assert code == 0, err
    assert (run / "table" / "meta.json").stat().st_mtime_ns == before
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["adap-demo"]
    assert out.splitlines()[-1] == f"report: {run / 'report' / 'index.html'}"
    assert (run / "report" / "index.html").stat().st_size > 10_000
    assert {path.name for path in (run / "policies").iterdir()} == {"threshold", "ppo"}
    assert json.loads((run / "run.json").read_text())["checkpoint"]["path"] == "packaged"
    for number in "12345":
        assert f"{number}/5 adap " in err
    code, _, err = demo()
    assert code == 2
    assert "--overwrite" in err


def test_json_is_one_object_of_all_commands(tmp_path, monkeypatch, capsys):
    for name in ("sweep", "search", "train_policy", "report"):

        def command(run, json, quiet, name=name, **_):
            Console(json=json, quiet=quiet).result({"name": name})
            Console(json=json, quiet=quiet).print("for people")

        monkeypatch.setattr(f"adapcli.commands.{name}.{name}", command)
    assert main(["demo", "--run", str(tmp_path), "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["schema_version"], err) == (1, "")
    assert found["report"] == str(tmp_path / "report" / "index.html")
    names = [part["name"] for part in found["commands"].values()]
    assert names == ["sweep", "search", "train_policy", "train_policy", "report"]
