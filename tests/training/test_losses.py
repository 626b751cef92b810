"""The once-for-all loss equals the losses of its configurations, run one by one."""

import torch
from torch.nn.functional import cross_entropy

from adapcli.model.config import ModelConfig
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration
from adapcli.training.losses import Targets, depth_weights
from adapcli.training.objective import Losses, Pass, pass_losses
from adapcli.training.schema import Loss, Readouts

CONFIG = ModelConfig(
    embed_dim=16,
    num_heads=2,
    depth=3,
    max_latent_tokens=4,
    token_granularities=(1, 2, 4),
    widths=(4, 8, 16),
    image_size=8,
    patch_size=4,
    in_channels=1,
    num_classes=5,
    use_embed_ffn=False,
    layer_scale_init=0.5,
    token_init_std=0.5,
)


def _setting() -> tuple[AdaPerceiver, torch.Tensor, torch.Tensor, tuple[int, ...]]:
    torch.manual_seed(0)
    return AdaPerceiver(CONFIG), torch.randn(6, 1, 8, 8), torch.arange(6) % 5, (4, 8, 16, 16, 8, 4)


def step_losses(model, x, target, tokens, depth_tokens=(), widths=None, **readouts) -> Losses:
    chosen = Pass(model.full_configuration, widths, tokens, depth_tokens)
    return pass_losses(model, x, Targets(target), chosen, Loss(), Readouts(**readouts))


def test_the_token_loss_is_the_mean_over_granularities_of_separate_runs():
    model, x, target, widths = _setting()
    losses = step_losses(model, x, target, (1, 2, 4), widths=widths)
    alone = [
        cross_entropy(model(x, Configuration(t, 16, 3), widths=widths).logits, target) for t in (1, 2, 4)
    ]
    torch.testing.assert_close(losses.token, torch.stack(alone).mean())
    assert losses.depth == 0
    torch.testing.assert_close(losses.total, losses.token)


def test_the_depth_loss_weighs_separate_runs_of_each_earlier_depth():
    model, x, target, widths = _setting()
    losses = step_losses(model, x, target, (4,), (2,), widths)
    alone = [
        cross_entropy(model(x, Configuration(2, 16, depth), widths=widths).logits, target) for depth in (1, 2)
    ]
    torch.testing.assert_close(losses.depth, alone[0] / 3 + 2 * alone[1] / 3)
    torch.testing.assert_close(losses.total, losses.token + losses.depth)


def test_every_parameter_learns_from_the_once_for_all_loss():
    model, x, target, widths = _setting()
    losses = step_losses(model, x, target, (1, 2, 4), (1,), widths, depth="uniform")
    losses.total.backward()
    # A key's bias moves all scores of a query alike; its gradient is zero up to rounding.
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in silent if not name.endswith("k.bias")] == []


def test_depth_weights_sum_to_one_and_a_single_block_has_none():
    torch.testing.assert_close(depth_weights(5, "linear"), torch.tensor([0.1, 0.2, 0.3, 0.4]))
    torch.testing.assert_close(depth_weights(5, "uniform"), torch.full((4,), 0.25))
    assert depth_weights(1, "linear").numel() == 0
