"""`adap train-policy` asked for what it cannot do, and kept policies that are not to be trusted."""

import json
import pickle
import zipfile
from pathlib import Path

import pytest

QUICK = ["train-policy", "--algo", "threshold", "--quiet"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        *[(["--flops-target", text], 2, "a fraction in (0, 1]: write 0.7")
          for text in ("nan", "inf", "-1", "0", "0,7", "70")],
        *[(["--max-drop", text], 2, "expected a loss of score in [0, 1]") for text in ("nan", "-1", "70")],
        *[(["--lambda", text], 2, "expected a price, 0 or more") for text in ("nan", "inf", "-1", "0,7")],
        (["--flops-target", "0.01"], 5, "the cheapest is 0."),
        (["--flops-target", "0.5", "--lambda", "0.1"], 2, "--flops-target, --lambda and --max-drop"),
        (["--algo", "foo"], 2, "allowed: "),
        (["--algo", "pppo"], 2, "did you mean 'ppo'"),
        (["--algo", "../x"], 2, "allowed: "),
        (["--algo", "dqn", "--actions", "factored"], 2, "discrete"),
        (["--algo", "ppo", "--actions", "x"], 2, "allowed"),
        (["--resume"], 2, "--resume goes on with --algo all"),
        (["--algo", "gate", "--env", "anytime"], 2, "gate"),
        (["--algo", "ppo", "--env", "moon"], 2, "anytime"),
        (["--actions", "factored"], 2, "threshold has no option actions"),
        (["--timesteps", "100"], 2, "threshold has no option timesteps"),
        (["--algo", "ppo", "--timesteps", "0"], 2, "expected a whole number from 1"),
        (["--algo", "ppo", "--timesteps", "1e5"], 2, "expected a whole number from 1"),
        (["--algo", "ppo", "--seed", str(2**70)], 2, "expected a whole number from 0"),
        *[(["--name", name], 2, "name") for name in ("../x", "..", ".x", "a/b", "a\nb", "x" * 300)],
    ],
)  # fmt: skip
def test_wrong_arguments(adap, run, contents, words, code, told):
    before = contents(run.parent)
    adap(*QUICK, *words).refused(code, told)
    assert contents(run.parent) == before
    assert not (run / "policies" / "threshold").exists()


def test_a_policy_is_kept_unless_told(adap, run, contents):
    assert adap(*QUICK).code == 0
    before = contents(run)
    adap(*QUICK, "--lambda", "0.2").refused(2, "policies/threshold holds a policy already", "--name NAME")
    assert contents(run) == before
    assert adap(*QUICK, "--lambda", "0.2", "--overwrite").code == 0
    assert adap(*QUICK, "--name", "my [red] é").code == 0
    assert (run / "policies" / "my [red] é" / "policy.json").exists()


def test_a_full_disk_keeps_the_earlier_policy(adap, run, disk_space, contents):
    assert adap(*QUICK).code == 0
    before = contents(run)
    with disk_space(0):
        ended = adap(*QUICK, "--lambda", "0.2", "--overwrite")
    assert (ended.code, "Traceback" in ended.err) == (1, False), ended
    assert "error: cannot write" in ended.err
    assert contents(run) == before


def test_a_file_in_the_place_of_a_policy(adap, run):
    (run / "policies").mkdir()
    (run / "policies" / "threshold").touch()
    adap(*QUICK).refused(2, "policies/threshold: is a file, not a folder")


def test_an_interrupt_leaves_nothing_and_tells_what_to_type(adap, run, monkeypatch, contents):
    import policies

    def stop(*_, **__):
        raise KeyboardInterrupt

    before = contents(run)
    with monkeypatch.context() as patch:
        patch.setattr(policies, "train", stop)
        ended = adap("train-policy", "--algo", "ppo", "--overwrite")
    assert ended.code == 130
    assert "hint: continue with: python -m adapcli train-policy --algo ppo --overwrite\n" in ended.err
    assert contents(run) == before
    with monkeypatch.context() as patch:
        patch.setattr("policies.field.train_field", stop)
        ended = adap("train-policy", "--algo", "all", "--overwrite")
    assert ended.code == 130
    assert "hint: continue with: python -m adapcli train-policy --algo all --resume\n" in ended.err


class Payload:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def change_json(**changed):
    def apply(policy, mark):
        path = policy / "policy.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return apply


def put_zip(name):
    """As stable-baselines3 keeps a policy, with code in it."""

    def apply(policy, mark):
        with zipfile.ZipFile(policy / name, "w") as archive:
            archive.writestr("data", json.dumps({"policy_class": {":serialized:": "gASV"}}))
            archive.writestr("policy.pth", pickle.dumps(Payload(mark)))

    return apply


def put_pickle(name):
    return lambda policy, mark: (policy / name).write_bytes(pickle.dumps(Payload(mark)))


def put_text(name, text):
    return lambda policy, mark: (policy / name).write_text(text)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (put_text("policy.json", ""), "policy.json"),
        (put_text("policy.json", "{"), "policy.json"),
        (put_text("policy.json", "[" * 100_000), "nested too deeply"),
        (put_text("policy.json", '{"a": NaN}'), "NaN is not JSON"),
        (put_zip("policy.json"), "policy.json: not usable JSON"),
        (put_pickle("policy.json"), "policy.json: not usable JSON"),
        (put_zip("policy.safetensors"), "policy.safetensors"),
        (put_pickle("policy.safetensors"), "policy.safetensors"),
        (lambda policy, mark: (policy / "policy.safetensors").unlink(), "policy.safetensors"),
        (change_json(kind="sb3"), "kind 'sb3' is not known"),
        (change_json(schema_version=99), "99"),
    ],
)
def test_a_kept_policy_that_is_damaged_is_refused_and_never_run(adap, run, tmp_path, damage, told):
    assert adap(*QUICK).code == 0
    damage(run / "policies" / "threshold", tmp_path / "ran")
    adap("report").refused(3, "policies/threshold", told)
    assert not (tmp_path / "ran").exists()
