"""The folded readout: one constant query reads many prefixes without projecting keys and values per token.

The written token's query never changes, so W_k^T (R_p^T q) is one D-vector per (position, head): scores are
products with the normalised latents, and W_v is applied once to each head's weighted sum of latents. Same
answer as the plain form (tested to 1e-5 relative), a few per cent of its work. `folded` keeps the fold of
each model for as long as its weights stay the same; training, whose weights never do, folds anew.

N leading axis (samples, or samples times depths), T latent tokens, D model width, H heads, C channels per
head, G prefixes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear

from adapcli.errors import UsageError
from adapcli.model.layers import LAYER_NORM_EPS, CrossBlock
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.precision import as_written, wide
from adapcli.model.rope import rotate_back


@dataclass(frozen=True)
class FoldedReadout:
    """What the fold leaves of query, keys and values. Made from the weights as they are; differentiable."""

    keys_THD: Tensor
    key_bias_TH: Tensor
    values_HDC: Tensor
    value_bias_HC: Tensor
    sink_D: Tensor
    model: AdaPerceiver

    @classmethod
    def of(cls, model: AdaPerceiver, tokens: int) -> "FoldedReadout":
        """Fold the classification readout for runs of `tokens` tokens (the length sets the rotations).

        Raises UsageError for tasks whose queries are made from patches.
        """
        if not model.config.classifies:
            raise UsageError(f"no constant query to fold in a {model.config.task} model")
        with as_written(model.device):
            return cls(*_parts(model, tokens), model)

    def logits(self, z_NTD: Tensor, prefixes: Sequence[int] | None = None) -> Tensor:
        """Class logits of every prefix of the latents: (N, T, D) -> (N, G, K). Default: the whole run."""
        return self.model.adapt(self.written(z_NTD, prefixes or (z_NTD.shape[1],)))

    def written(self, z_NTD: Tensor, prefixes: Sequence[int]) -> Tensor:
        """The written token of every prefix, before the head: (N, G, D). Prefixes ascend, at most T.

        UsageError for prefixes that do not.
        """
        if list(prefixes) != sorted(set(prefixes)) or not 1 <= prefixes[0] <= prefixes[-1] <= z_NTD.shape[1]:
            raise UsageError(f"prefixes {list(prefixes)}: expected ascending, from 1 to {z_NTD.shape[1]}")
        with as_written(z_NTD.device):
            z_NTD = layer_norm(wide(z_NTD[:, : prefixes[-1]]), z_NTD.shape[-1:], eps=LAYER_NORM_EPS)
            mixed_HMD, shape = self._mix(z_NTD, prefixes)
        mixed_HMD = mixed_HMD.type_as(self.values_HDC)
        values_HMC = torch.baddbmm(self.value_bias_HC[:, None], mixed_HMD, self.values_HDC)
        merged_MD = values_HMC.permute(1, 0, 2).flatten(1)
        written: Tensor = self.sink_D + self.model.write_head.cattn.proj(merged_MD)
        return written.view(*shape, written.shape[-1])

    def _mix(self, z_NTD: Tensor, prefixes: Sequence[int]) -> tuple[Tensor, tuple[int, int]]:
        """Each head's attention-weighted mean of the latents in each prefix: (H, N * G, D), in float32.

        Groups between prefixes are summed once each; a prefix combines its groups, rescaled to their maximum.
        """
        tokens = prefixes[-1]
        scores_NHT = self._scores(z_NTD, tokens)
        sums, peaks, totals = [], [], []
        for start, stop in zip((0, *prefixes[:-1]), prefixes, strict=True):
            part_NHT = scores_NHT[:, :, start:stop]
            peak_NH = part_NHT.amax(-1)
            weight_NHT = (part_NHT - peak_NH[..., None]).exp()
            sums.append(weight_NHT @ z_NTD[:, start:stop])
            peaks.append(peak_NH)
            totals.append(weight_NHT.sum(-1))
        mixed_GNHD = _combine(sums, peaks, totals)
        mixed_HNGD = mixed_GNHD.permute(2, 1, 0, 3)
        return mixed_HNGD.flatten(1, 2), (z_NTD.shape[0], len(prefixes))

    def _scores(self, z_NTD: Tensor, tokens: int) -> Tensor:
        """(N, H, T): one product per position, since each position has its own folded key."""
        scores_TNH = torch.baddbmm(
            self.key_bias_TH[:tokens, None], z_NTD.transpose(0, 1), self.keys_THD[:tokens].transpose(1, 2)
        )
        return scores_TNH.permute(1, 2, 0)


def _parts(model: AdaPerceiver, tokens: int) -> "_Parts":
    """The fold, computed in float32 at least; keys are kept so, since scores must not be rounded twice."""
    head, heads, scale = model.write_head, model.config.num_heads, model.config.head_dim**-0.5
    attention, norm, sink = head.cattn, head.src_norm, model.output_token[0]
    gain, shift = wide(norm.weight), wide(norm.bias)
    query_HC = _wide_query(head, sink).view(heads, -1) * scale
    turned_HTC = rotate_back(query_HC, model.rotation(tokens)).type_as(query_HC)
    key_HCD = wide(attention.k.weight).view(heads, -1, model.config.embed_dim)
    folded_THD = torch.einsum("htc,hcd->thd", turned_HTC, key_HCD)
    bias_TH = folded_THD @ shift
    if attention.k.bias is not None:
        bias_TH = bias_TH + torch.einsum("htc,hc->th", turned_HTC, wide(attention.k.bias).view(heads, -1))
    value_HCD = wide(attention.v.weight).view(heads, -1, model.config.embed_dim)
    value_bias_HC = value_HCD @ shift
    if attention.v.bias is not None:
        value_bias_HC = value_bias_HC + wide(attention.v.bias).view(heads, -1)
    values_HDC = (value_HCD * gain).transpose(1, 2)
    return folded_THD * gain, bias_TH, values_HDC.type_as(sink), value_bias_HC.type_as(sink), sink


def _wide_query(head: CrossBlock, sink_D: Tensor) -> Tensor:
    """The written token's query, (D,)."""
    norm, query = head.snk_norm, head.cattn.q
    normed = layer_norm(wide(sink_D), sink_D.shape, wide(norm.weight), wide(norm.bias), norm.eps)
    return linear(normed, wide(query.weight), None if query.bias is None else wide(query.bias))


_Parts = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
_Weights = tuple[tuple[object, ...], ...]
_Kept = tuple[_Weights, dict[int, _Parts], list[Tensor]]
_kept: "WeakKeyDictionary[AdaPerceiver, _Kept]" = WeakKeyDictionary()


def folded(model: AdaPerceiver, tokens: int | None = None) -> FoldedReadout:
    """The folded readout for runs of `tokens` tokens, without gradients; default: up to the trained length.

    Made once per weights: it is made anew after any in-place change, replacement, or move to another device
    or type. The one change that goes unseen is writing through `.data`, which torch does not count.
    """
    length = max(tokens or 1, model.config.max_latent_tokens)  # rotations, and so folds, are the same below
    tensors = _folded_weights(model)
    if any(tensor.is_inference() for tensor in tensors):  # whether these change cannot be told
        return _fold_exactly(model, length)
    weights = tuple((id(t), t.data_ptr(), t._version, t.device, t.dtype) for t in tensors)
    known, folds, _ = _kept.get(model, ((), {}, []))
    if known != weights:
        folds = {}
        # Holding objects and memory keeps both from being given to other weights, which would look the same.
        _kept[model] = (weights, folds, [*tensors, *(t.detach() for t in tensors)])
    if length not in folds:
        fold = _fold_exactly(model, length)
        folds[length] = (fold.keys_THD, fold.key_bias_TH, fold.values_HDC, fold.value_bias_HC, fold.sink_D)
    return FoldedReadout(*folds[length], model)


def _folded_weights(model: AdaPerceiver) -> list[Tensor]:
    parts = (model.write_head, model.output_latents)
    return [tensor for part in parts for tensor in part.parameters()]


def _fold_exactly(model: AdaPerceiver, tokens: int) -> FoldedReadout:
    """The fold as ordinary tensors in the weights' own type, whatever mode the caller is in."""
    with torch.inference_mode(False), torch.no_grad():
        return FoldedReadout.of(model, tokens)


def _combine(sums: list[Tensor], peaks: list[Tensor], totals: list[Tensor]) -> Tensor:
    """Running softmax over groups: weighted means of all groups up to each one, (G, N, H, D)."""
    total, mixed, peak = totals[0], sums[0], peaks[0]
    means = [mixed / total[..., None]]
    for next_sum, next_peak, next_total in zip(sums[1:], peaks[1:], totals[1:], strict=True):
        highest = torch.maximum(peak, next_peak)
        keep, add = (peak - highest).exp(), (next_peak - highest).exp()
        mixed = mixed * keep[..., None] + next_sum * add[..., None]
        total = total * keep + next_total * add
        peak = highest
        means.append(mixed / total[..., None])
    return torch.stack(means)
