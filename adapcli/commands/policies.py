"""The policy that a command was given by its name in the run folder or by its place."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from adapcli.model.perceiver import AdaPerceiver
    from adapcli.run import Run
    from policies.base import StoredPolicy


def open_policy(name: str, run: "Run", model: "AdaPerceiver") -> "StoredPolicy":
    """The policy called `name` in the run folder, else the one in the folder `name`, made for this model.

    FileError if there is none, if it is not to be trusted, or if it was made from another checkpoint or for
    configurations that the model was not made for: a stranger's could ask for any amount of work.
    """
    from adapcli.errors import FileError
    from adapcli.sweep.fingerprints import checkpoint_fingerprint
    from policies import registry

    policy = registry.load(find_policy(name, run))
    made_for, found = policy.grid.fingerprints.get("checkpoint"), checkpoint_fingerprint(model)
    if made_for != found:
        message = f"policy {name} was made for another checkpoint: {made_for or 'unknown'}, this is {found}"
        raise FileError(message, "give that one with --ckpt, or sweep this one and train a policy for it")
    _check_grid(policy, name, model)
    return policy


def _check_grid(policy: "StoredPolicy", name: str, model: "AdaPerceiver") -> None:
    from adapcli.errors import FileError, UsageError
    from adapcli.space import Configuration

    columns, space = policy.grid.columns, model.config.space
    if not {"tokens", "width", "depth"} <= set(columns):
        return  # over something else: refused by whatever runs models
    places = [columns.index(axis) for axis in ("tokens", "width", "depth")]
    try:
        for row in policy.grid.configurations:
            tokens, width, depth = (cast("int", row[place]) for place in places)
            space.validate(Configuration(tokens, width, depth))
    except UsageError as error:
        raise FileError(f"policy {name} asks for {error.message[:200]}", error.hint) from error


def find_policy(name: str, run: "Run") -> Path:
    """Folder of the policy called `name` in the run, else `name` itself; FileError if there is none."""
    from adapcli.errors import FileError
    from policies import registry

    known = run.policy_names()
    if name in known:
        return run.policies / name
    if "/" in name or _is_there(name):
        return Path(name)
    there = f"there are: {', '.join(known)}" if known else f"run `{run.command('train-policy')}` first"
    hint = f"{there}; another run's is named by its folder, such as RUN/policies/{name}"
    guess = registry.did_you_mean(name, known)
    raise FileError(f"no policy {name!r} in {run.policies}{guess}", hint)


def _is_there(name: str) -> bool:
    with suppress(OSError, ValueError):  # too long a name, or a zero byte in it
        return name != "" and Path(name).exists()
    return False
