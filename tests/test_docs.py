"""What the README shows exists, and its code runs."""

import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import adapcli
from adapcli.main import COMMANDS, GROUPS, main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def commands() -> list[str]:
    """Every `adap ...` in the README, in a block or in the text."""
    found = re.findall(r"^(adap [^#\n]*)", README, re.M) + re.findall(r"`(adap [^`]*)`", README)
    return sorted({" ".join(line.split()) for line in found})


@pytest.mark.parametrize("line", commands())
def test_commands_and_their_options_exist(line, capsys):
    command, *words = shlex.split(line)[1:]
    if command.startswith("-"):
        return
    assert command in (*COMMANDS, *GROUPS)
    inner = [words[0]] if command in GROUPS else []
    assert main([command, *inner, "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(word.partition("=")[0] in shown for word in words if word.startswith("--"))


def test_the_file_tree_names_what_is_there():
    lines = README[README.index("## Files") :].split("```")[1].strip("\n").splitlines()
    room = ROOT
    for line in lines:
        inside = line.startswith(" ")
        names = line.strip().partition("  ")[0].split(", ")
        paths = [(room if inside else ROOT) / name for name in names]
        assert all(path.exists() for path in paths), line
        room = room if inside else paths[0]


def test_pictures_and_linked_pages_are_there():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    local = [link for link in links if not link.startswith("http")]
    assert local
    assert all((ROOT / link).exists() for link in local)


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.slow
@pytest.mark.parametrize(("block", "name"), [(2, "model"), (3, "preference")])
def test_the_training_shown_learns(make_table, tmp_path, monkeypatch, block, name):
    """Stable-Baselines3, and a loop of one's own: afterwards episodes earn more than at random."""
    import gymnasium
    import numpy as np

    from policies import gym

    table = make_table(400)
    signals = table.score[..., None] + 0.3 * np.random.default_rng(0).normal(size=table.signals.shape)
    replace(table, signals=signals.astype(np.float32)).save(tmp_path / "adap-run/table")
    monkeypatch.chdir(tmp_path)
    shown = {}
    exec(compile(python_blocks()[block], "README.md", "exec"), shown)
    env = gymnasium.make(gym.ANYTIME, table="adap-run/table", lambda_=0.1)
    rng = np.random.default_rng(1)

    def learned(seen, told):
        if name == "preference":
            return shown["preference"][told["configuration"], int(seen[0] > 0)].argmax()
        price = shown["env"].task.prices.code(np.array([0.1]))[0]
        return shown["model"].predict(np.r_[seen, price], deterministic=True)[0]

    def earned(choose):
        total = 0.0
        for seed in range(300):
            seen, told = env.reset(seed=seed)
            ended = False
            while not ended:
                seen, reward, ended, _, told = env.step(choose(seen, told))
                total += reward
        return total / 300

    assert earned(learned) > earned(lambda *_: rng.integers(env.action_space.n)) + 0.05


def test_the_model_brought_in_as_shown_is_a_policy_of_the_run(make_table, tmp_path, monkeypatch, capsys):
    make_table(200).save(tmp_path / "adap-run/table")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "policies/GYM.md").read_text("utf-8")
    code = re.findall(r"```python\n(.*?)```", page, re.S)[1]
    assert len(code.splitlines()) <= 15
    exec(compile(code.replace("60_000", "32_768"), "GYM.md", "exec"), {})
    assert main(["evaluate-policy", "--policy", "mine", "--json"]) == 0
    assert '"name": "sb3-ppo"' in capsys.readouterr().out


def test_the_python_shown_runs(make_table, tmp_path, monkeypatch):
    make_table(20).save(tmp_path / "adap-run/table")
    monkeypatch.chdir(tmp_path)
    code = python_blocks()[0]
    shown = {}
    exec(compile(code, "README.md", "exec"), shown)
    assert shown["out"].depth.shape == (4,)
    assert shown["table"].n_samples == 20


@pytest.mark.slow
def test_the_jobs_shown_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("adapcli.report.build._write_figure", lambda drawing, folder: "")
    shutil.copy(adapcli.packaged(), "m.pt")
    shown = {}
    exec(compile(python_blocks()[1], "README.md", "exec"), shown)
    assert 190 < shown["table"].n_samples <= 200
    assert shown["found"].choice.cost_fraction <= 0.7
    assert {row.kind for row in shown["rows"]} == {"direct", "static"}
    assert (tmp_path / "R/report/index.html").is_file()


def test_contributing_stays_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text("utf-8").splitlines()) <= 40
