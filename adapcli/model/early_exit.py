"""Stop deepening once the answer is confident (paper section 3, early exit)."""

from math import isnan
from typing import Literal

import torch
from torch import Tensor

from adapcli.errors import UsageError
from adapcli.model.perceiver import AdaPerceiver, Output
from adapcli.model.precision import wide
from adapcli.model.readout import folded
from adapcli.space import Configuration


@torch.no_grad()
def early_exit(
    model: AdaPerceiver,
    x: Tensor,
    *,
    tokens: int,
    width: int,
    confidence: float,
    per: Literal["sample", "batch"] = "sample",
) -> Output:
    """Read out after every block (by the folded form) and stop when max softmax reaches `confidence`.

    per="sample": each sample leaves by itself, and later blocks run on the samples that remain; a sample's
    answer is that of the sample alone. per="batch": the batch's mean confidence decides for all, as
    published. Output.depth (B,) says how many blocks each sample ran. UsageError for a model without
    logits, or for wrong arguments.
    """
    if not model.config.classifies:
        raise UsageError(f"early exit needs class logits; this is a {model.config.task} model")
    if per not in ("sample", "batch"):
        raise UsageError(f"per {per!r}: expected 'sample' or 'batch'")
    if isnan(confidence):
        raise UsageError("confidence nan: expected a probability such as 0.9")
    patches = model.embed(x)
    plan = model.plan(Configuration(tokens, width, model.config.depth), len(x))
    logits = x.new_empty(len(x), model.config.num_classes or 0)
    depth = torch.full((len(x),), model.config.depth, device=x.device)
    active = torch.arange(len(x), device=x.device)
    z, readout = model.read(patches, tokens), folded(model, tokens)
    for ran, (block, hidden) in enumerate(zip(model.blocks, plan.hidden, strict=True), start=1):
        z = block(z, plan.rotation, plan.ends, hidden, plan.attention)
        answer = readout.logits(z)[:, 0]
        logits[active], depth[active] = answer.type_as(logits), ran
        sure = wide(answer).softmax(-1).amax(-1)
        stays = (sure if per == "sample" else sure.mean().expand_as(sure)) < confidence
        active, z = active[stays], z[stays]
        if not len(active):
            break
    return Output(logits=logits, depth=depth)
