"""Three ways to execute the block mask: masked over all pairs, group by group, and torch's flex attention.

Attention alone, at the published size: 256 tokens, 13 heads of 64 channels. Ratios of medians over masked
attention, rounds interleaved; flex is compiled, which takes its time once and is not counted.
"""

import argparse
import json

import torch
from torch.nn.functional import scaled_dot_product_attention

from adapcli.measure.device import describe, resolve
from adapcli.measure.latency import Call, Stopwatch, synchroniser
from adapcli.model.attention import block_mask, group_ends, grouped_attention
from adapcli.model.config import ModelConfig
from adapcli.model.flex import flex, flex_mask
from adapcli.model.flops import trunk_flops
from adapcli.model.precision import resolve_dtype
from adapcli.space import Configuration

SIZES = {
    "published": ModelConfig(num_classes=1000),
    "tiny": ModelConfig(
        num_classes=10,
        embed_dim=64,
        num_heads=4,
        depth=1,
        max_latent_tokens=16,
        token_granularities=(4, 8, 16),
        widths=(64,),
    ),
}


def ways(config: ModelConfig, batch: int, device: torch.device, dtype: torch.dtype) -> dict[str, Call]:
    """The calls to compare, on the same queries, keys and values."""
    shape = (3, batch, config.num_heads, config.max_latent_tokens, config.head_dim)
    q, k, v = torch.randn(shape, device=device, dtype=dtype).unbind()
    ends = group_ends(config.max_latent_tokens, config.token_granularities)
    allowed, flexible, compiled = block_mask(ends, device), flex_mask(ends, device), torch.compile(flex)
    calls: dict[str, Call] = {
        "masked": lambda: scaled_dot_product_attention(q, k, v, attn_mask=allowed),
        "grouped": lambda: grouped_attention(q, k, v, ends),
        "flex": lambda: compiled(q, k, v, flexible),
    }
    expected, tolerance = calls["masked"](), 1e-5 if dtype == torch.float32 else 2e-2
    for name in ("grouped", "flex"):
        torch.testing.assert_close(calls[name](), expected, atol=tolerance, rtol=tolerance, msg=name)
    return calls


def promised(config: ModelConfig) -> float:
    """The part of masked attention's pairs that grouped attention computes."""
    full = config.full_configuration
    none = Configuration(full.tokens, full.width, 1)
    dense, block = (trunk_flops(config, none, attention=way) for way in ("dense", "block"))
    return 1 - (dense - block) / (4 * full.tokens**2 * config.embed_dim)


@torch.inference_mode()
def measure(options: argparse.Namespace) -> dict[str, object]:
    """Medians in ms and their ratios to masked attention, per batch size."""
    device, config = resolve(options.device), SIZES[options.size]
    dtype = resolve_dtype(options.dtype, device)
    stopwatch = Stopwatch(rounds=options.rounds, synchronise=synchroniser(device))
    found = {}
    for batch in options.batches:
        times = stopwatch.measure(ways(config, batch, device, dtype))
        masked = times["masked"].median_ms
        found[str(batch)] = {
            name: {"median_ms": round(t.median_ms, 4), "of_masked": round(t.median_ms / masked, 3)}
            for name, t in times.items()
        }
    machine = describe(device)
    facts = {
        "size": options.size,
        "dtype": str(dtype),
        "machine": machine,
        "pairs": round(promised(config), 3),
    }
    return {"schema_version": 1, **facts, "batches": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=tuple(SIZES), default="published")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.device in ("auto", "cpu"):
        torch.set_num_threads(1)
    found = measure(options)
    if options.json:
        return print(json.dumps(found))
    print(f"{found['machine']['name']}, {found['dtype']}; pairs computed group by group: {found['pairs']}")
    for batch, times in found["batches"].items():
        told = ", ".join(
            f"{name} {t['median_ms']:.3f} ms ({t['of_masked']:.2f})" for name, t in times.items()
        )
        print(f"batch {batch}: {told}")
    return None


if __name__ == "__main__":
    main()
