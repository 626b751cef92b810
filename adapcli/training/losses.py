"""How answers are judged, against labels and against a teacher (method: Training).

B batch, G readouts, K classes, P patches, F feature channels.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div, log_softmax, smooth_l1_loss

from adapcli.evaluation.dense.losses import Total, as_it_is
from adapcli.training.schema import Loss


@dataclass(frozen=True)
class Answer:
    """What a teacher says: logits (B, K), or (B, G, K) to each readout, and patch features (B, P, F).

    None: nothing.
    """

    logits: Tensor | None = None
    features: Tensor | None = None


@dataclass(frozen=True)
class Targets:
    """What answers are judged against: labels (B,) int64, or shares of classes (B, K), and a teacher.

    in_place: readouts learn from larger ones of the same pass. total: of a sum over the samples here, the
    same over the whole batch, of which several processes hold a part each.
    """

    labels: Tensor
    teacher: Answer = Answer()
    in_place: bool = False
    total: Total = as_it_is


def judged(logits_BGK: Tensor, targets: Targets, loss: Loss) -> Tensor:
    """Mean loss over the batch of every readout, (G,); in float32 whatever the logits are."""
    logits = logits_BGK.float()
    total = logits.new_zeros(logits.shape[1])
    if loss.labels:
        total = total + loss.labels * _against_labels(logits, targets.labels, loss.label_smoothing)
    if loss.distillation:
        assert targets.teacher.logits is not None
        total = total + loss.distillation * _divergence(logits, targets.teacher.logits, loss.temperature)
    return total


def judged_in_place(logits_BLGK: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """As `judged`, (L, G); each learns from the readout one block and one granularity further, if there is.

    In-place distillation (arXiv 1903.05134), but from a neighbour instead of the largest. The largest has
    labels only, which then count for both.
    """
    shape = logits_BLGK.shape[1:3]
    further = torch.cat([logits_BLGK[:, 1:], logits_BLGK[:, -1:]], 1)
    further = torch.cat([further[:, :, 1:], further[:, :, -1:]], 2).detach()
    teacher = Answer(further.flatten(1, 2))
    smaller = judged(logits_BLGK.flatten(1, 2), Targets(labels, teacher), loss)[:-1]
    alone = loss.model_copy(update={"labels": loss.labels + loss.distillation, "distillation": 0.0})
    largest = judged(logits_BLGK[:, -1, -1:], Targets(labels), alone)
    return torch.cat([smaller, largest]).view(shape)


def feature_distance(student_BPF: Tensor, teacher_BPF: Tensor, cosine: float) -> Tensor:
    """`cosine` x cosine distance + (1 - cosine) x smooth L1, means over batch and patches; a scalar."""
    student, teacher = student_BPF.float(), teacher_BPF.float()
    distance = 1 - cosine_similarity(student, teacher, dim=-1).mean()
    return cosine * distance + (1 - cosine) * smooth_l1_loss(student, teacher)


def depth_weights(depth: int, kind: Literal["linear", "uniform"]) -> Tensor:
    """Weights of the readouts after blocks 1..depth-1: l / L or equal; they sum to 1."""
    weights = (
        torch.arange(1, depth, dtype=torch.float32) if kind == "linear" else torch.ones(max(depth - 1, 0))
    )
    return weights / weights.sum()


def _against_labels(logits_BGK: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    repeated = labels[:, None].expand(-1, logits_BGK.shape[1], *labels.shape[1:]).flatten(0, 1)
    losses = cross_entropy(logits_BGK.flatten(0, 1), repeated, reduction="none", label_smoothing=smoothing)
    return losses.view(logits_BGK.shape[:2]).mean(0)


def _divergence(logits_BGK: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student), softened; times the temperature squared, so that gradients keep their size."""
    student = log_softmax(logits_BGK / temperature, dim=-1)
    teacher_BGK = teacher.float().view(len(teacher), -1, teacher.shape[-1])
    teacher_BGK = log_softmax(teacher_BGK / temperature, dim=-1).expand_as(student)
    pointwise = kl_div(student, teacher_BGK, reduction="none", log_target=True)
    return temperature**2 * pointwise.sum(-1).mean(0)
