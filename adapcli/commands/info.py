"""`adap info`."""

from typing import TYPE_CHECKING, Any

from adapcli.commands.checkpoints import open_checkpoint, short_name, stored_bytes
from adapcli.commands.options import Checkpoint, Json, Quiet
from adapcli.commands.units import bytes_text, flops_text
from adapcli.console import Console

if TYPE_CHECKING:
    from adapcli.model.config import ModelConfig
    from adapcli.model.perceiver import AdaPerceiver
    from adapcli.space import Configuration

MOST_NAMES = 10


def info(ckpt: Checkpoint = None, json: Json = False, quiet: Quiet = False) -> None:
    """Show a checkpoint's architecture, size, and what its configurations cost."""
    console = Console(json=json, quiet=quiet)
    model, source = open_checkpoint(console, ckpt)
    facts = _facts(model, source)
    console.table(["what", "value"], [*_architecture(facts), *_data(facts)], title=short_name(source))
    console.print()
    console.table(["configuration", "", "executed", "published"], _costs(facts), title="cost of one image")
    console.say("executed: folded readout, block attention, as this project runs; published: plain, dense")
    console.result(facts)


def _facts(model: "AdaPerceiver", source: str) -> dict[str, Any]:
    parameters = list(model.parameters())
    return {
        "checkpoint": {"path": source, "bytes": stored_bytes(source)},
        "architecture": model.config.to_dict(),
        "parameters": sum(p.numel() for p in parameters),
        "memory_bytes": sum(p.numel() * p.element_size() for p in parameters),
        "class_names": list(model.class_names),
        "preprocessing": model.preprocessing.to_dict(),
        "grid": _grid(model.config, model.preprocessing.size),
    }


def _grid(config: "ModelConfig", image_size: int) -> dict[str, Any]:
    space = config.space
    cheapest, full = (_cost(config, c, image_size) for c in (space.cheapest, space.full))
    span = full["executed_flops"] / cheapest["executed_flops"]
    return {
        "configurations": len(space),
        "tokens": list(space.tokens),
        "widths": list(space.widths),
        "depths": list(space.depths),
        "image_size": image_size,
        "cheapest": cheapest,
        "full": full,
        "span": span,
    }


def _cost(config: "ModelConfig", c: "Configuration", image_size: int) -> dict[str, Any]:
    from adapcli.model.flops import both_conventions

    costs = both_conventions(config, c, image_size)
    return {"tokens": c.tokens, "width": c.width, "depth": c.depth, **costs}


def _architecture(facts: dict[str, Any]) -> list[list[object]]:
    a, grid = facts["architecture"], facts["grid"]
    stored = facts["checkpoint"]["bytes"]
    return [
        ["task", a["task"]],
        ["parameters", f"{facts['parameters']:,}"],
        [
            "size",
            f"{bytes_text(facts['memory_bytes'])} in memory"
            + (f", {bytes_text(stored)} stored" if stored else ""),
        ],
        ["model width", f"{a['embed_dim']}, {a['num_heads']} heads"],
        ["FFN", f"{a['ffn']}, {a['ffn_ratio']:g} x width"],
        ["mask", a["mask"]],
        ["tokens", _listed(grid["tokens"])],
        ["widths", _listed(grid["widths"])],
        ["depths", _listed(grid["depths"])],
    ]


def _crop(preprocessing: dict[str, Any]) -> str:
    cuts = preprocessing.get("crop", "centre") == "centre"
    return f"crop {preprocessing['size']}" if cuts else "no crop"


def _background(preprocessing: dict[str, Any]) -> str:
    return f", background {preprocessing['background']}" if "background" in preprocessing else ""


def _data(facts: dict[str, Any]) -> list[list[object]]:
    a, p, names = facts["architecture"], facts["preprocessing"], facts["class_names"]
    patches = (p["size"] // a["patch_size"]) ** 2
    rows: list[list[object]] = [
        ["image", f"{p['size']} px, {a['in_channels']} channels, {patches} patches of {a['patch_size']} px"],
        ["preprocessing", f"resize {p['resize']} {p['interpolation']}, {_crop(p)}, "
                          f"mean {_numbers(p['mean'])}, std {_numbers(p['std'])}{_background(p)}"],
    ]  # fmt: skip
    if a["num_classes"] is not None:
        more = ", ..." if len(names) > MOST_NAMES else ""
        shown = f": {', '.join(names[:MOST_NAMES])}{more}" if names else ""
        rows.append(["classes", f"{a['num_classes']}{shown}"])
    return rows


def _costs(facts: dict[str, Any]) -> list[list[object]]:
    grid = facts["grid"]
    rows: list[list[object]] = [
        [
            f"t{c['tokens']} w{c['width']} l{c['depth']}",
            name,
            flops_text(c["executed_flops"]),
            flops_text(c["published_flops"]),
        ]
        for name, c in (("cheapest", grid["cheapest"]), ("full", grid["full"]))
    ]
    spans = [grid["full"][key] / grid["cheapest"][key] for key in ("executed_flops", "published_flops")]
    return [*rows, [f"{grid['configurations']} in all", "span", *(f"{span:.3g} x" for span in spans)]]


def _listed(values: list[int]) -> str:
    consecutive = len(values) > 3 and values == list(range(values[0], values[-1] + 1))
    return f"{values[0]}..{values[-1]}" if consecutive else ", ".join(map(str, values))


def _numbers(values: list[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
