"""Checks that need the model to run: on images (B, channels, height, width), normalised, in float32.

B batch, T latent tokens, D model width.
"""

from typing import Any

import torch
from torch import Tensor

from adapcli.evaluation.diagnosis.check import Check, percent
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration
from policies.statistics import normal_interval

DISTINCT_SHARE = 0.1
PREFIX_LIMIT = 1e-5
BEYOND = (2, 4)
BEYOND_POINTS = 0.02
RUN_TOGETHER = 64


def specialisation(model: AdaPerceiver, images: Tensor) -> Check:
    """Do tokens tell different things of an image? By the latents that the full configuration reads out.

    The number of distinct tokens is the participation ratio of the T x T Gram matrix of what varies between
    images: 1 where all tokens move together, T where each moves for itself.
    """
    full = model.full_configuration
    distinct = distinct_tokens(_read_out(model, images, full))
    least = 1 + min(1.0, DISTINCT_SHARE * (full.tokens - 1))
    limit = (
        f"warns below {least:.3g} distinct tokens, a tenth of the further ones or one of them: one token "
        "would then do"
    )
    numbers = {"tokens": full.tokens, "distinct": distinct, "least": least, "samples": len(images)}
    told = f"{full.tokens} tokens tell as much as {distinct:.2f} distinct ones"
    return Check("specialisation", full.tokens > 1 and distinct < least, told, limit, numbers)


def distinct_tokens(z_BTD: Tensor) -> float:
    """How many independent tokens vary as much from image to image: from 1 to T; 1 if nothing varies."""
    varying = (z_BTD - z_BTD.mean(0)).double()
    strengths = torch.linalg.eigvalsh(torch.einsum("bsd,btd->st", varying, varying)).clamp_min(0)
    total = float(strengths.sum())
    return total**2 / float((strengths**2).sum()) if total > 0 else 1.0


@torch.inference_mode()
def _latents(model: AdaPerceiver, images: Tensor, configuration: Configuration) -> Tensor:
    z = model.read(model.embed(images.to(model.device)), configuration.tokens)
    for state in model.states(z, model.plan(configuration, len(images))):
        z = state
    return z


@torch.inference_mode()
def _read_out(model: AdaPerceiver, images: Tensor, configuration: Configuration) -> Tensor:
    """Latents as the readout sees them, normalised."""
    seen: Tensor = model.write_head.src_norm(_latents(model, images, configuration))
    return seen


def prefix(model: AdaPerceiver, images: Tensor) -> Check:
    """Do the first t tokens of a long run equal a run of t tokens, for every t trained for?"""
    full = model.full_configuration
    long = _latents(model, images, full)
    scale = float(long.abs().max())
    largest = {
        t: float(
            (_latents(model, images, Configuration(t, full.width, full.depth)) - long[:, :t]).abs().max()
        )
        for t in model.config.token_granularities
    }
    worst = max(largest, key=lambda t: largest[t])
    limit = (
        f"warns above {PREFIX_LIMIT:g} of the largest latent, a hundred roundings of float32: then a sweep "
        "in one pass and a run that continues are not exact"
    )
    told = f"largest difference {largest[worst]:.1e} (t={worst}), of latents up to {scale:.3g}"
    if not model.config.has_prefix_property:
        told += "; with mask none it cannot hold: every token count needs a run of its own"
    by_tokens = {str(t): difference for t, difference in largest.items()}
    numbers = {"max_abs": by_tokens, "scale": scale, "samples": len(images)}
    return Check("prefix", not largest[worst] <= PREFIX_LIMIT * scale, told, limit, numbers)


def beyond_trained(model: AdaPerceiver, images: Tensor, targets: Tensor) -> Check:
    """Does accuracy fail with more tokens than trained for? targets (B,); full width and depth."""
    full, trained = model.full_configuration, model.config.max_latent_tokens
    hits = {t: _hits(model, images, targets, t) for t in (full.tokens, *(n * trained for n in BEYOND))}
    reference = hits.pop(full.tokens)
    gains = {t: normal_interval((hit - reference).numpy()) for t, hit in hits.items()}
    shown = ", ".join(
        f"t={t} {percent(float(hits[t].mean()))} ({100 * gain.mean:+.1f} points, "
        f"{100 * gain.low:+.1f} .. {100 * gain.high:+.1f})"
        for t, gain in gains.items()
    )
    numbers: dict[str, Any] = {
        "trained_tokens": trained,
        "accuracy": {str(t): float(hit.mean()) for t, hit in ((full.tokens, reference), *hits.items())},
        "gain": {str(t): [gain.mean, gain.low, gain.high] for t, gain in gains.items()},
        "samples": len(images),
    }
    limit = (
        f"warns if one surely loses more than {100 * BEYOND_POINTS:g} points, twice what a policy may "
        "lose by default: tokens that cost more must not"
    )
    told = f"t={full.tokens} {percent(float(reference.mean()))}; {shown}"
    failed = any(gain.high < -BEYOND_POINTS for gain in gains.values())
    return Check("beyond trained tokens", failed, told, limit, numbers)


@torch.inference_mode()
def _hits(model: AdaPerceiver, images: Tensor, targets: Tensor, tokens: int) -> Tensor:
    full = model.full_configuration
    configuration = Configuration(tokens, full.width, full.depth)
    answers = [_answer(model, part, configuration) for part in torch.split(images, RUN_TOGETHER)]
    return (torch.cat(answers) == targets.cpu()).double()


def _answer(model: AdaPerceiver, images: Tensor, configuration: Configuration) -> Tensor:
    logits = model(images.to(model.device), configuration).logits
    assert logits is not None
    answer: Tensor = logits.argmax(-1)
    return answer.cpu()
