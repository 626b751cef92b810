"""All checks of one classifier, in the order in which they are told."""

from collections.abc import Callable

import torch
from torch import Tensor

from adapcli.evaluation.diagnosis import answers, latents
from adapcli.evaluation.diagnosis.check import Check
from adapcli.evaluation.diagnosis.memory import memory
from adapcli.model.perceiver import AdaPerceiver
from policies.table import OutcomeTable

PREFIX_IMAGES = 16

Call = Callable[[int], object]
Progress = Callable[[int, int], object]


def diagnose(
    model: AdaPerceiver,
    table: OutcomeTable,
    images: Tensor,
    targets: Tensor,
    *,
    train_step: Call,
    progress: Progress = lambda done, total: None,
) -> tuple[Check, ...]:
    """What the table does not tell is measured on images (B, channels, height, width) of classes (B,).

    train_step: runs one step of training on so many samples, for its memory alone.
    """

    def answering() -> Check:
        with torch.inference_mode():
            return memory(lambda size: model(repeated(images, size).to(model.device)), model.device)

    def training() -> Check:
        return memory(train_step, model.device, name="memory in training")

    checks: list[Callable[[], Check]] = [
        lambda: answers.low_tokens(table),
        lambda: latents.specialisation(model, images),
        lambda: answers.widths(table),
        lambda: latents.beyond_trained(model, images, targets),
        lambda: latents.prefix(model, images[:PREFIX_IMAGES]),
        lambda: answers.calibration(table),
        answering,
        training,
    ]
    found = []
    for done, check in enumerate(checks):
        progress(done, len(checks))
        found.append(check())
    progress(len(checks), len(checks))
    return tuple(found)


def repeated(images: Tensor, size: int) -> Tensor:
    """`size` images, those given over and over."""
    return images[torch.arange(size) % len(images)]
