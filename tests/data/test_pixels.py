"""Transparency, frames and limits are the same in every source, and in training, sweep and predict."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

import adapcli
from adapcli.data.dataset import open_dataset
from adapcli.errors import FileError, UsageError
from adapcli.main import main
from adapcli.model.preprocessing import Preprocessing
from adapcli.training.recipe import load_recipe
from adapcli.training.source import open_source
from adapcli.training.start import start

from .conftest import write_shard

PLAIN = Preprocessing(6, 6, (0.0,) * 3, (1.0,) * 3)
EACH = 24
TINY = [
    "stages=[{name: all, steps: 2, axes: [tokens, depth, width]}]",
    "batch=4",
    "model={embed_dim: 16, num_heads: 2, depth: 2, max_latent_tokens: 4, token_granularities: [1, 4], "
    "widths: [8, 16], patch_size: 8, image_size: 16}",
    "evaluate_samples=4",
]


def icon(index, rubbish):
    """A square on transparent ground, under whose alpha lies any colour."""
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[..., :3] = np.random.default_rng([index, rubbish]).integers(0, 256, (16, 16, 3))
    pixels[4:12, 4:12] = (index * 5, 200, 40, 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def icons(root, kind, rubbish):
    named = {f"{label}/{i:02}": icon(i + 20 * label, rubbish) for label in (0, 1) for i in range(EACH)}
    if kind == "folder":
        for name, content in named.items():
            path = root / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return f"folder:{root}"
    if kind == "webdataset":
        members = [
            (f"{name.replace('/', '-')}.{end}", content)
            for name, png in named.items()
            for end, content in (("png", png), ("cls", name[0].encode()))
        ]
        write_shard(root / "a.tar", members)
        return f"webdataset:{root}"
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    root.mkdir(parents=True, exist_ok=True)
    rows = [{"image": {"bytes": png}, "label": int(name[0])} for name, png in named.items()]
    pq.write_table(pa.Table.from_pylist(rows), root / "a.parquet")
    return f"hf:{root}"


def whole(name, **options):
    data = open_dataset(name, split="test", preprocessing=PLAIN, split_by="1:1:1:20", **options)
    batch = data.batch(0, len(data))
    order = np.argsort(batch.sample_ids)
    return batch.images[order], data


@pytest.mark.parametrize("kind", ["folder", "webdataset", "hf"])
def test_colours_under_transparent_pixels_change_nothing(tmp_path, kind):
    # Splits follow content, which differs: compare what both have.
    found = {}
    for rubbish in (0, 1):
        images, data = whole(icons(tmp_path / str(rubbish), kind, rubbish))
        names = sorted(data.batch(0, len(data)).sample_ids)
        found[rubbish] = dict(zip(names, images, strict=True))
        texts = [decision.text for decision in data.findings.decisions if decision.warning]
        assert texts == ["some images have transparent pixels: composited on white (--background)"]
    both = found[0].keys() & found[1].keys()
    assert len(both) > 20
    assert all(torch.equal(found[0][name], found[1][name]) for name in both)
    assert all(float(image[:, 0, 0].min()) == 1 for image in found[0].values())


def test_the_background_is_the_users_or_the_models(tmp_path):
    name = icons(tmp_path, "folder", 0)
    white, plain = whole(name)
    red, data = whole(name, background="#FF0000")
    assert white[0, :, 0, 0].tolist() == [1, 1, 1]
    assert red[0, :, 0, 0].tolist() == [1, 0, 0]
    assert data.fingerprint != plain.fingerprint
    black = Preprocessing(6, 6, (0.0,) * 3, (1.0,) * 3, background="black")
    data = open_dataset(name, split="test", preprocessing=black)
    assert data.batch(0, 1).images[0, :, 0, 0].tolist() == [0, 0, 0]
    with pytest.raises(UsageError, match="expected white, black or #RRGGBB"):
        whole(name, background="transparent")


def test_inspection_says_what_becomes_of_transparency_and_masks(tmp_path, capsys):
    name = icons(tmp_path / "icons", "folder", 0)
    assert main(["data", "inspect", "--data", name, "--background", "black"]) == 0
    assert "transparent pixels: composited on black" in capsys.readouterr().out
    for i in range(8):
        for folder, values in (("images", np.zeros((4, 4, 3))), ("masks", np.full((4, 4), i % 3))):
            path = tmp_path / "pairs" / folder / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(path)
    assert main(["data", "inspect", "--data", f"folder:{tmp_path / 'pairs'}", "--task", "segmentation"]) == 0
    said = "values of masks are classes from 0, 255 is not scored; 8 masks hold 3 values: 0 to 2"
    assert f"decided (masks): {said}" in " ".join(capsys.readouterr().out.split())


def test_frames_are_said(tmp_path):
    icons(tmp_path, "folder", 0)
    frames = [Image.new("RGB", (16, 16), (shade, 0, 0)) for shade in (10, 200)]
    for i in range(EACH):
        frames[0].save(tmp_path / "0" / f"{i:02}.gif", save_all=True, append_images=frames[1:])
    _, data = whole(f"folder:{tmp_path}")
    assert "several frames or pages: the first one is read" in str(data.findings.decisions)


@pytest.mark.parametrize("kind", ["folder", "webdataset", "hf"])
def test_images_beyond_max_pixels_are_skipped_with_the_option_named(tmp_path, kind):
    name = icons(tmp_path, kind, 0)
    with pytest.raises(FileError, match=r"none of .* can be read") as caught:
        whole(name, max_pixels=255)
    assert "256 pixels, more than 255 (decompression bomb?): --max-pixels 256 allows it" in caught.value.hint
    assert len(whole(name, max_pixels=256)[1]) > 20


def recipe_for(name, *changes):
    return load_recipe("images-quick", [f"data={name}", "train_share=0.5", *TINY, *changes])


def test_preprocessing_of_a_recipe_is_that_of_a_new_model(tmp_path):
    name = icons(tmp_path, "folder", 0)
    usual = start(recipe_for(name), open_source(recipe_for(name))).model.preprocessing
    assert usual == Preprocessing.published(16, 3)
    said = "{crop: none, interpolation: nearest, mean: [0, 0, 0], std: [1, 1, 1], background: black}"
    recipe = recipe_for(name, f"preprocessing={said}")
    made = start(recipe, open_source(recipe)).model.preprocessing
    assert made == Preprocessing(16, 16, (0.0,) * 3, (1.0,) * 3, "nearest", "none", "black")
    larger = recipe_for(name, "preprocessing.resize=20")
    assert start(larger, open_source(larger)).model.preprocessing.resize == 20


def test_a_checkpoint_brings_its_own_preprocessing_but_for_what_a_recipe_says(tmp_path, make_model):
    name = icons(tmp_path / "icons", "folder", 0)
    own = Preprocessing(16, 20, (0.1,) * 3, (0.3,) * 3, "bicubic", background="#102030")
    model = make_model(num_classes=2, class_names=["0", "1"], in_channels=3, image_size=16)
    model.preprocessing = own
    adapcli.save(model, tmp_path / "model.pt")
    recipe = load_recipe(
        "images-quick", [f"data={name}", "train_share=0.5", "model={}", f"start={tmp_path / 'model.pt'}"]
    )
    assert start(recipe, open_source(recipe)).model.preprocessing == own
    changed = recipe.model_copy(
        update={"preprocessing": recipe_for(name, "preprocessing.crop=none").preprocessing}
    )
    found = start(changed, open_source(changed)).model.preprocessing
    assert found == Preprocessing(16, 16, own.mean, own.std, "bicubic", "none", "#102030")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("resize: 8", "resize 8: smaller than size 16"),
        ("crop: none, resize: 20", "crop none: resize 20 is not size 16"),
        ("mean: [0.5]", "mean: expected 3 finite numbers"),
        ("std: [0, 1, 1]", "std: expected positive"),
        ("interpolation: lanczos", "interpolation"),
        ("background: red", "expected white, black or #RRGGBB"),
        ("size: 16", "size"),
    ],
)
def test_preprocessing_that_cannot_be_is_refused(tmp_path, change, message):
    name = icons(tmp_path, "folder", 0)

    def begin():
        recipe = recipe_for(name, f"preprocessing={{{change}}}")
        start(recipe, open_source(recipe))

    with pytest.raises(UsageError, match=message):
        begin()


def test_transparency_is_said_by_train_and_sweep_and_the_background_stays_with_the_model(
    tmp_path, monkeypatch, capsys
):
    name = icons(tmp_path / "icons", "folder", 0)
    monkeypatch.chdir(tmp_path)
    settings = [word for change in TINY for word in ("--set", change)]
    train = ["train", "--recipe", "images-quick", "--data", name, "--run", "r", *settings]
    assert main([*train, "--background", "black"]) == 0
    said = "some images have transparent pixels: composited on black"
    assert capsys.readouterr().err.count(said) == 1
    assert adapcli.load("r/train/model.pt").preprocessing.background == "black"
    assert main(["sweep", "--run", "r"]) == 0
    assert capsys.readouterr().err.count(said) == 1
    answers = {}
    for options in ([], ["--background", "black"], ["--background", "white"]):
        assert main(["predict", "icons/0", "--run", "r", "--json", *options]) == 0
        captured = capsys.readouterr()
        answers[" ".join(options)] = [p["confidence"] for p in json.loads(captured.out)["predictions"]]
        assert f"{EACH} pictures have transparent pixels" in captured.err
    assert answers[""] == answers["--background black"] != answers["--background white"]
    assert main(["predict", "icons/0", "--run", "r", "--max-pixels", "9"]) == 3
    assert "--max-pixels 256 allows it" in capsys.readouterr().err


def test_print_config_shows_preprocessing(capsys):
    assert main(["train", "--recipe", "digits", "--print-config", "--background", "#102030"]) == 0
    shown = capsys.readouterr().out
    assert "preprocessing:\n  resize: null\n  crop: null\n" in shown
    assert "background: '#102030'" in shown
