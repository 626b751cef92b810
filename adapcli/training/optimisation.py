"""Steps, their size over time, and averaged weights."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel

from adapcli.distributed.parts import WholeParameters, in_full, in_parts
from adapcli.errors import AdapError, UnavailableError, pip_install
from adapcli.model.perceiver import AdaPerceiver
from adapcli.training.schema import Optimiser, Recipe


class Optimisation:
    """What happens to a model's weights after each backward pass.

    learning_rate: of the step to come. averaged: the model whose weights are kept. begin: is given the
    model when it is known what is trained, before optimisers take its parameters.
    """

    def __init__(
        self,
        model: AdaPerceiver,
        recipe: Recipe,
        begin: Callable[[AdaPerceiver], None] = lambda model: None,
    ) -> None:
        self.model, self.recipe, self.options = model, recipe, recipe.optimiser
        freeze(model, recipe.train)
        self._average = AveragedModel(model, multi_avg_fn=self._towards)
        begin(model)
        self.trained = [parameter for _, parameter in learning(model)]
        self._optimisers = optimisers(model, self.options)
        self.steps = 0

    @property
    def averaged(self) -> AdaPerceiver:
        """The averaged model, in evaluation mode."""
        inner = self._average.module
        assert isinstance(inner, AdaPerceiver)
        return inner.eval()

    @property
    def learning_rate(self) -> float:
        """Of the step to come."""
        return learning_rate(self.steps, self.recipe)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimiser in self._optimisers:
            optimiser.zero_grad(set_to_none=True)

    def step(self) -> float:
        """Clip, step and average; the gradients' norm. AdapError if it is no number: nothing is changed."""
        norm = float(in_full(nn.utils.clip_grad_norm_(self.trained, self.options.clip_norm)))
        if not math.isfinite(norm):
            raise AdapError(f"the gradients' norm became {norm} at step {self.steps}")
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.learning_rate
            optimiser.step()
        self._average.update_parameters(WholeParameters(self.model))
        self.steps += 1
        return norm

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` continues from; the model's own weights apart."""
        states = [optimiser.state_dict() for optimiser in self._optimisers]
        return {"averaged": self._average.state_dict(), "optimisers": states, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from there. Raises what torch raises for a state that does not fit."""
        self._average.load_state_dict(state["averaged"])
        for optimiser, own in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(_as_held(own, optimiser))
        self.steps = int(state["steps"])

    def _towards(self, averaged: Any, current: Any, done: Any) -> None:
        """Move averages towards the weights; `done`: how often before."""
        decay = self.options.ema_decay
        if self.options.ema_warmup:
            decay = min(decay, (1 + int(done)) / (10 + int(done)))
        torch._foreach_lerp_(averaged, current, 1 - decay)


def _as_held(state: dict[str, Any], optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """A whole state in parts where the parameters are."""
    held = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    kept = {
        number: {name: in_parts(value, held[number]) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    return {**state, "state": kept}


def freeze(model: nn.Module, train: tuple[str, ...] | None) -> list[nn.Parameter]:
    """Let only parameters whose names begin with one of `train` learn (None: all); those that do.

    AdapError if none does.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(train is None or name.startswith(train))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise AdapError(f"no parameter's name begins with {', '.join(train or ())}: nothing to train")
    return trained


def learning_rate(step: int, recipe: Recipe) -> float:
    """Of a step (from 0): warm-up, then the schedule over the whole run, at the height of its stage."""
    stage, options = recipe.stage_at(step), recipe.optimiser
    height = options.learning_rate if stage.learning_rate is None else stage.learning_rate
    return height * schedule(step, recipe.total_steps, options)


def schedule(step: int, total: int, options: Optimiser) -> float:
    """The part of the learning rate at a step: warm-up from near 0 to 1, then down to `final_share`."""
    warm = min(1.0, (step + 1) / max(1, options.warmup_steps))
    done = min(1.0, step / total)
    if options.schedule == "constant":
        left = 1.0
    elif options.schedule == "poly":
        left = (1 - done) ** options.power
    else:
        left = 0.5 * (1 + math.cos(math.pi * done))
    floor = 1.0 if options.schedule == "constant" else options.final_share
    return warm * (floor + (1 - floor) * left)


def optimisers(model: nn.Module, options: Optimiser) -> list[torch.optim.Optimizer]:
    """One or two that together step every trained parameter once.

    muon: the blocks' matrices, by torch.optim.Muon; the rest (embedding, positions, tokens, read and write
    heads, vectors) by AdamW. Its steps are scaled to the size of AdamW's (0.2 sqrt(max(rows, columns)),
    arXiv 2502.16982), so that learning rate, schedule and decay mean the same for both. soap: all by SOAP
    (arXiv 2409.11321), whose first step only looks. UnavailableError without a library that one needs.
    """
    if options.name == "soap":
        return [_soap(model, options)]
    left, made = dict(learning(model)), list[torch.optim.Optimizer]()
    if options.name == "muon":
        matrices = [left.pop(name) for name in list(left) if _of_a_block(name, left[name])]
        made += [_muon(matrices, options)] if matrices else []
    groups = parameter_groups(left, options.weight_decay)
    if groups:
        made.append(AdamW(groups, lr=options.learning_rate, betas=options.betas))
    return made


def _of_a_block(name: str, parameter: nn.Parameter) -> bool:
    return name.startswith("blocks.") and parameter.ndim == 2


def _muon(matrices: list[nn.Parameter], options: Optimiser) -> torch.optim.Optimizer:
    try:
        from torch.optim import Muon
    except ImportError as error:
        raise UnavailableError("optimiser muon: this torch has none", "torch 2.9 or newer has it") from error
    rate, decay = options.learning_rate, options.weight_decay
    return Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")


def _soap(model: nn.Module, options: Optimiser) -> torch.optim.Optimizer:
    try:
        from pytorch_optimizer import SOAP
    except ImportError as error:
        raise UnavailableError("optimiser soap needs the soap extra", pip_install("soap")) from error
    groups = parameter_groups(dict(learning(model)), options.weight_decay)
    made: torch.optim.Optimizer = SOAP(groups, lr=options.learning_rate, betas=options.betas)
    return made


def learning(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters that are trained, by name."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def parameter_groups(named: dict[str, nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; vectors (norms, biases, gains, tokens) and positions do not."""

    def decays(name: str, parameter: nn.Parameter) -> bool:
        return parameter.ndim > 1 and not name.endswith(("token", "pos_embed"))

    matrices = [p for name, p in named.items() if decays(name, p)]
    rest = [p for name, p in named.items() if not decays(name, p)]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
