"""How fast scenes are made, against placing them one by one with Pillow.

The rival draws the same digits at the same places: each scan resized by Pillow, pasted through its own ink,
with noise drawn per scene. Prints scenes per second on one thread and their ratio; `--json`: one object.
"""

import argparse
import json
import statistics
import time

import numpy as np
import torch
from PIL import Image

from adapcli.data.placement import SceneTable
from adapcli.data.rendering import piece_masks
from adapcli.data.scenes import BLOCK, Scenes, SceneSpec


def one_by_one(table: SceneTable, scenes: Scenes) -> np.ndarray:
    """(B, S, S) in [0, 1]: a block of scenes, object by object."""
    glyphs, pieces = scenes.glyphs.numpy() * 255, piece_masks().numpy()
    rng, side = np.random.default_rng(0), scenes.spec.canvas
    images = []
    for row in range(BLOCK):
        canvas = Image.new("L", (side, side))
        for paint in (table.fragments, table.digits):
            for slot in np.flatnonzero(paint.present[row]):
                ink = glyphs[paint.glyph[row, slot]] * pieces[paint.piece[row, slot]]
                height, width = np.rint(paint.extent[row, slot]).astype(int).tolist()
                mask = Image.fromarray(ink.astype(np.uint8)).resize(
                    (width, height), Image.Resampling.BILINEAR
                )
                top, left = (
                    np.rint(paint.centre[row, slot] - paint.extent[row, slot] / 2).astype(int).tolist()
                )
                canvas.paste(int(255 * paint.brightness[row, slot]), (left, top), mask)
        noise = rng.standard_normal((side, side), dtype=np.float32) * np.float32(table.sigma[row])
        images.append(np.clip(np.asarray(canvas, np.float32) / 255 + noise, 0, 1))
    return np.stack(images)


def rates(scenes: Scenes, block: int) -> tuple[float, float]:
    """Scenes per second: ours, one by one. The drawing of the table counts for both."""
    start = time.perf_counter()
    scenes.batch(block * BLOCK, (block + 1) * BLOCK)
    middle = time.perf_counter()
    one_by_one(scenes.table(block), scenes)
    return BLOCK / (middle - start), BLOCK / (time.perf_counter() - middle)


def measure(blocks: int) -> dict[str, object]:
    scenes = Scenes(SceneSpec(), split="train")
    pairs = [rates(scenes, block) for block in range(blocks + 1)][1:]
    quick, slow = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "schema_version": 1,
        "scenes_per_second": round(quick),
        "one_by_one_per_second": round(slow),
        "ratio": round(quick / slow, 1),
        "canvas": scenes.spec.canvas,
        "max_digits": scenes.spec.max_digits,
        "threads": torch.get_num_threads(),
        "blocks": blocks,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.blocks)
    if options.json:
        print(json.dumps(found))
        return
    print(f"{found['scenes_per_second']} scenes a second, one by one {found['one_by_one_per_second']}")
    print(
        f"ratio {found['ratio']} (canvas {found['canvas']}, up to {found['max_digits']} digits, one thread)"
    )


if __name__ == "__main__":
    main()
