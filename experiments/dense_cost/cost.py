"""What encoders cost on dense tasks: the published AdaPerceiver beside ViT-H/14, analytically, in FLOPs.

    python experiments/dense_cost/cost.py [--json]

1 multiply-add = 2 FLOPs; matrix products and convolutions only; batch 1; attention dense over the tokens, as
published. "Encoder" leaves out the task's readout and head. The paper's ~26x does not say what else the word
covers, so every reading of it stands here by itself.
"""

import argparse
import json
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from adapcli.evaluation.dense.passes import grid_flops
from adapcli.evaluation.dense.tasks import dense_task
from adapcli.evaluation.passes import plan_passes
from adapcli.model.config import ModelConfig
from adapcli.model.flops import embed_flops, executed_flops, flops, input_flops, readout_flops, trunk_flops
from adapcli.space import Configuration

SIZES = {"ADE20K": (518, 518), "NYUv2": (480, 640)}
TOKENS, WIDTHS, DEPTHS = (32, 64, 96, 128, 192, 256, 512), (416, 624, 832), (6, 11, 16, 21)


@dataclass(frozen=True)
class ViT:
    """A plain vision transformer with a class token; its FFNs are `ratio` times wider than `dim`."""

    dim: int
    depth: int
    patch: int
    ratio: float = 4.0
    channels: int = 3

    def flops(self, size: tuple[int, int]) -> int:
        """Patches, and every block's projections, attention (all to all) and FFN; no head."""
        d, patches = self.dim, (size[0] // self.patch) * (size[1] // self.patch)
        tokens = patches + 1
        block = tokens * (4 * d * d + 2 * int(self.ratio * d) * d) + 2 * tokens * tokens * d
        return 2 * (patches * self.channels * self.patch**2 * d + self.depth * block)


VIT_H14 = ViT(dim=1280, depth=32, patch=14)


def dense_config(task: str = "segmentation") -> ModelConfig:
    """The published dense model: 14 px patches, 518 px, trained with up to 512 tokens."""
    classes = 150 if task == "segmentation" else None
    return ModelConfig(
        task=task,  # type: ignore[arg-type]
        patch_size=14,
        image_size=518,
        max_latent_tokens=512,
        token_granularities=(32, 64, 96, 128, 192, 256, 512),
        num_classes=classes,
        output_feat_dim=1280,
    )


READINGS = ("latents", "projected", "no_ffn", "encoder")
"""What may be counted: read and blocks; also the patches' projection; their keys and values; their FFN."""


def encoder_flops(config: ModelConfig, c: Configuration, size: tuple[int, int]) -> dict[str, int]:
    """FLOPs by reading, each more than the one before."""
    plain = config.model_copy(update={"use_embed_ffn": False})
    latents = trunk_flops(config, c, size, attention="dense")
    return {
        "latents": latents,
        "projected": latents + embed_flops(plain, size),
        "no_ffn": latents + input_flops(plain, size),
        "encoder": latents + input_flops(config, size),
    }


def rows() -> list[dict[str, Any]]:
    """Every size and configuration: FLOPs, and the ratio to ViT-H/14 at the same size, by reading."""
    config, found = dense_config(), []
    for (data, size), *axes in product(SIZES.items(), TOKENS, WIDTHS, DEPTHS):
        c, vit = Configuration(*axes), VIT_H14.flops(size)
        counted = encoder_flops(config, c, size)
        row = {"data": data, "height_px": size[0], "width_px": size[1], "configuration": str(c)}
        row |= {"vit_flops": vit, "readout_flops": readout_flops(config, c.tokens, size, readout="plain")}
        row |= {f"{reading}_flops": flops for reading, flops in counted.items()}
        found.append(row | {f"{reading}_ratio": vit / flops for reading, flops in counted.items()})
    return found


def grids() -> list[str]:
    """What a sweep of whole grids and parts of them takes of one image at 518 px, in one pass per width."""
    parts = {"all": {}, "--tokens 64,256": {"tokens": (64, 256)}}
    parts["--tokens 64,256 --depths 7,14,21"] = {"tokens": (64, 256), "depths": (7, 14, 21)}
    lines = []
    for config, (name, axes) in product((dense_config("segmentation"), dense_config("depth")), parts.items()):
        configurations, task = list(config.space.restrict(**axes)), dense_task(config, 518)
        shared = grid_flops(config, plan_passes(config, configurations), 518) / 1e12
        alone = sum(executed_flops(config, c, 518) for c in configurations) / 1e12
        width = np.dtype(task.metrics_dtype).itemsize
        cell = 4 * (2 + len(task.signal_names)) + len(task.metric_columns) * width
        kib = len(configurations) * cell / 1024
        cells = (config.task, name, str(len(configurations)), f"{shared:.2f}", f"{alone:.2f}", f"{kib:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def told(row: dict[str, Any]) -> str:
    """One line of the table, GFLOPs and ratios."""
    pairs = [f"{row[f'{r}_flops'] / 1e9:.1f} ({row[f'{r}_ratio']:.1f}x)" for r in READINGS]
    ends = f"{row['vit_flops'] / 1e9:.0f}", f"{row['readout_flops'] / 1e9:.1f}"
    cells = (
        f"{row['data']} {row['height_px']} x {row['width_px']}",
        row["configuration"],
        ends[0],
        *pairs,
        ends[1],
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the configurations of full width and depth, and what else comes near the claim."""
    parser = argparse.ArgumentParser(description="Encoder FLOPs on dense tasks, beside ViT-H/14")
    parser.add_argument("--json", action="store_true", help="every configuration as JSON")
    found = rows()
    if parser.parse_args().json:
        print(json.dumps(found, indent=1))
        return
    head = ["image", "configuration", "ViT-H/14", "read + blocks", "+ projection", "+ keys, values", "+ FFN"]
    print("GFLOPs\n| " + " | ".join([*head, "readout + head"]) + " |\n" + "|---" * (len(head) + 1) + "|")
    for row in found:
        if row["configuration"].endswith("w832 l21"):
            print(told(row))
    print("\n| task | sub-grid | configurations | TFLOPs an image | one by one | KiB stored an image |")
    print("|---" * 6 + "|")
    for line in grids():
        print(line)
    published = flops(ModelConfig(num_classes=1000), Configuration(256, 832, 21))
    ratio = VIT_H14.flops(SIZES["ADE20K"]) / published
    print(f"\nViT-H/14 at 518 px against the published model's {published / 1e9:.2f} at 224 px: {ratio:.1f}x")


if __name__ == "__main__":
    main()
