"""What a bench runs of a policy: a stream of real images, which is what its work depends on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from adapcli.errors import UsageError
from adapcli.inference.answers import Answers, in_order
from adapcli.inference.anytime import run_anytime
from adapcli.inference.choosing import Choosing
from adapcli.inference.grouped import GroupedRun
from adapcli.measure.bench import Job
from adapcli.measure.memory import held_bytes
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.precision import autocast
from adapcli.model.readout import folded
from policies.live import Chooser, Stopper


def policy_job(
    name: str, policy: object, model: AdaPerceiver, images: Tensor, batch: int, dtype: torch.dtype
) -> Job:
    """A job that answers all `images` (N, channels, height, width) as `policy` decides, `batch` a step.

    At batch 1 one image is answered before the next is looked at; otherwise as many are under way as the
    executors let. Features, the policy's own computation and every readout are in the time. UsageError for a
    policy that needs an outcome table.
    """
    run = _runner(name, policy, model, images, batch)

    def call() -> Answers:
        with torch.no_grad(), autocast(model.device, dtype):
            return run()

    fold = vars(folded(model)) if model.config.classifies else {}
    kept = [part for part in fold.values() if isinstance(part, Tensor)]
    return Job("policy", name, batch, len(images), call, held_bytes(model, images, *kept))


def _runner(
    name: str, policy: object, model: AdaPerceiver, images: Tensor, batch: int
) -> Callable[[], Answers]:
    alone = 1 if batch == 1 else None
    if isinstance(policy, Stopper):
        return lambda: run_anytime(model, images, policy, batch=batch, max_in_flight=alone)
    if isinstance(policy, Chooser):
        choose = Choosing(model, policy)
        limits: dict[str, Any] = {"batch": batch, "max_in_flight": alone}
        return lambda: in_order(
            GroupedRun(model, images, choose, recalibrations=choose.recalibrations, **limits)
        )
    raise UsageError(f"policy {name} cannot run on images", "it needs the rows of an outcome table")
