"""One pass of the objective on tensors that have shapes and no data: its FLOPs and what it keeps in memory.

FLOPs are those of matrix products, convolutions and attention, as torch's FlopCounterMode counts them, which
knows no attention on CPU: its own formula is given to it. Kept are the tensors that autograd saves for the
backward pass, each once, without the weights; what an operation needs while it runs comes on top.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from adapcli.evaluation.dense.tasks import dense_task
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.precision import autocast, resolve_dtype
from adapcli.training.losses import Answer, Targets
from adapcli.training.objective import Pass, pass_losses
from adapcli.training.schema import Recipe, Stage


def _attention(query: Any, key: Any, value: Any, *_rest: Any, **_named: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_rest: Any, **_named: Any) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))  # type: ignore[no-untyped-call]


ON_CPU: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


class Rehearsed(NamedTuple):
    """FLOPs of the forward and the backward pass of a batch, and bytes kept between the two."""

    forward_flops: int
    backward_flops: int
    kept_bytes: int


def rehearse(
    model: AdaPerceiver,
    recipe: Recipe,
    stage: Stage,
    chosen: Pass,
    *,
    checkpointing: bool,
    backwards: bool = True,
) -> Rehearsed:
    """One pass over a batch of the recipe; `model` is on the device `meta` and stays there.

    With checkpointing the backward pass computes blocks again, which counts as backward; it then holds one
    block besides what was kept. backwards: whether the backward pass is counted, else 0.
    """
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    state = model.state_dict()
    try:
        with FakeTensorMode(), _counter() as both:
            # Fake tensors choose kernels, and follow autocast, as those of a CPU do; meta ones do not.
            model.load_state_dict({n: torch.empty(shape) for n, shape in shapes.items()}, assign=True)
            weights = {tensor.untyped_storage()._cdata for tensor in model.parameters()}
            images, targets = _batch(model, recipe, stage)
            device = torch.device("cpu")
            with (
                torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
                autocast(device, resolve_dtype(recipe.dtype, device)),
            ):
                losses = pass_losses(
                    model,
                    images,
                    targets,
                    chosen,
                    recipe.loss_of(stage),
                    recipe.readouts_of(stage),
                    checkpointing=checkpointing,
                )
            held = sum(storage.nbytes() for key, storage in kept.items() if key not in weights)
            with _counter() as backward:
                if backwards:
                    losses.total.backward()  # type: ignore[no-untyped-call]
    finally:
        for parameter in model.parameters():
            parameter.grad = None
        model.load_state_dict(state, assign=True)
    returned = backward.get_total_flops()
    return Rehearsed(both.get_total_flops() - returned, returned, held)


def _counter() -> FlopCounterMode:
    return FlopCounterMode(display=False, custom_mapping=ON_CPU)


def _batch(model: AdaPerceiver, recipe: Recipe, stage: Stage) -> tuple[Tensor, Targets]:
    config, size = model.config, recipe.batch
    images = torch.empty(size, config.in_channels, config.image_size, config.image_size)
    logits = torch.empty(size, config.num_classes or 1)
    patches = (config.image_size // config.patch_size) ** 2
    features = torch.empty(size, patches, config.output_feat_dim or 1)
    mixes = recipe.augment.mixup or recipe.augment.cutmix
    labels = logits if mixes else torch.empty(size, dtype=torch.int64)
    if config.is_dense:
        labels = dense_task(config, config.image_size).blank(size, config.image_size)
    in_place = recipe.in_place and recipe.loss_of(stage).needs_teacher
    return images, Targets(labels, Answer(logits, features), in_place)
