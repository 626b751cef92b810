"""Parts, hidden things and listings are decided alike in every source; what is left out is reported."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from adapcli.data.catalogue import open_catalogue
from adapcli.data.dataset import open_dataset
from adapcli.data.pairs import list_pairs
from adapcli.data.parts import part_of
from adapcli.data.pictures import find_pictures
from adapcli.data.spec import DataSpec
from adapcli.errors import AdapError, FileError
from adapcli.model.preprocessing import Preprocessing

from .conftest import grey, png, write_shard, write_table

PLAIN = Preprocessing(6, 6, (0.0,), (1.0,))
KINDS = ("folder", "npz", "webdataset", "hf", "manifest", "dense")


def images(part, count=20):
    """Of a part, in two classes: (class, pixels)."""
    pixels = grey(count, seed=sum(map(ord, part)))
    return [("ab"[row % 2], np.repeat(pixels[row][..., None], 3, 2)) for row in range(count)]


def write(kind, root, parts):
    """Parts as each kind of source has them; returns the name of the data."""
    if kind == "npz":
        arrays = {}
        for part in parts:
            arrays[f"{part}_images"] = np.stack([pixels for _, pixels in images(part)])
            arrays[f"{part}_labels"] = np.array([label for label, _ in images(part)])
        np.savez(root / "a.npz", **arrays)
        return f"npz:{root / 'a.npz'}"
    lines = ["path,label,split"]
    for part in parts:
        members = []
        for row, (label, pixels) in enumerate(images(part)):
            members += [(f"{row}.png", png(pixels)), (f"{row}.cls", label.encode())]
            if kind in ("folder", "manifest", "dense"):
                inside = {
                    "folder": f"{part}/{label}/{row}.png",
                    "manifest": f"{part}{row}.png",
                    "dense": f"images/{part}/{row}.png",
                }[kind]
                for name in (inside, *([inside.replace("images", "masks")] if kind == "dense" else [])):
                    (root / name).parent.mkdir(parents=True, exist_ok=True)
                    (root / name).write_bytes(png(pixels))
                lines.append(f"{inside},{label},{part}")
        if kind == "webdataset":
            write_shard(root / f"{part}-000.tar", members)
        if kind == "hf":
            rows = [("ab".index(label), pixels) for label, pixels in images(part)]
            write_table(root / f"{part}-00000-of-00001.parquet", rows, names="ab")
    if kind == "manifest":
        (root / "list.csv").write_text("\n".join(lines))
        return f"folder:{root / 'list.csv'}"
    return f"{'folder' if kind == 'dense' else kind}:{root}"


def parts_of(kind, name, **options):
    if kind == "hf":
        pytest.importorskip("pyarrow")
    if kind == "dense":
        spec = DataSpec(name=name, **options)
        return list_pairs(Path(name.partition(":")[2]), "segmentation", spec).catalogue
    return open_catalogue(name, **options)


def sizes(catalogue):
    return {part: len(entries) for part, entries in catalogue.parts.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_dev_is_val_and_unlabeled_is_left_out(tmp_path, kind):
    name = write(kind, tmp_path, ("train", "dev", "test", "unlabeled"))
    catalogue = parts_of(kind, name)
    assert sizes(catalogue) == {"train": 20, "val": 20, "test": 20}
    (left,) = [out for out in catalogue.findings.left_out if "unlabeled" in out.first]
    assert left.count == 20


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_part_is_refused_unless_it_is_said_what_it_is(tmp_path, kind):
    name = write(kind, tmp_path, ("train", "night", "test"))
    with pytest.raises(FileError, match=r"are parts, and 'night.* not known as such") as caught:
        parts_of(kind, name)
    assert "--parts" in caught.value.hint
    said = parts_of(kind, name, parts={"train*": "train", "night*": "val", "test*": "test"})
    assert sizes(said) == {"train": 20, "val": 20, "test": 20}
    without = parts_of(kind, name, parts={"train*": "train", "test*": "test"})
    assert sizes(without) == {"train": 20, "test": 20}
    assert [out.count for out in without.findings.left_out if "night" in out.first] == [20]
    assert sizes(parts_of(kind, name, split_by="ratio")) == {"train": 20, "all": 40}
    with pytest.raises(FileError, match=r"--parts: 'dusk' is not in it"):
        parts_of(kind, name, parts={"dusk": "val"})


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_train_alone_is_everything(tmp_path, kind):
    catalogue = parts_of(kind, write(kind, tmp_path, ("train",)))
    assert sizes(catalogue) == {"all": 20}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("my-test-set/train-00000-of-00001.parquet", "train"),
        ("test/train.tar", "train"),
        ("data/validation/0000.parquet", "val"),
        ("val/shards/000.tar", "val"),
        ("train2017", "train"),
        ("Eval", "val"),
        ("my test set/000.tar", ""),
        ("contest.tar", ""),
        ("", ""),
    ],
)
def test_the_last_piece_of_a_name_decides_then_the_nearest_folder(name, part):
    assert part_of(name) == part


def test_two_parts_in_one_name_are_refused():
    with pytest.raises(FileError, match="more than one part: train, val"):
        part_of("train-val-000.tar")


@pytest.mark.parametrize("kind", ["npz", "webdataset", "hf"])
def test_sources_without_labels_are_opened(tmp_path, kind):
    pixels = [np.repeat(image[..., None], 3, 2) for image in grey(60)]
    if kind == "npz":
        np.savez(tmp_path / "a.npz", images=np.stack(pixels))
    elif kind == "webdataset":
        write_shard(tmp_path / "a.tar", [(f"{n}.png", png(image)) for n, image in enumerate(pixels)])
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"image": [png(image) for image in pixels]}), tmp_path / "a.parquet")
    name = f"{kind}:{tmp_path / 'a.npz' if kind == 'npz' else tmp_path}"
    data = open_dataset(name, split="test", preprocessing=PLAIN, class_names=["x", "y", "z"])
    assert not data.labelled
    assert set(data.batch(0, len(data)).targets.tolist()) == {-1}
    assert data.class_names == ["x", "y", "z"]


@pytest.mark.parametrize("kind", ["npz", "webdataset", "hf"])
def test_a_part_without_labels_is_left_out_where_others_have_them(tmp_path, kind):
    name = write(kind, tmp_path, ("train", "val"))
    pixels = np.stack([pixels for _, pixels in images("test")])
    if kind == "npz":
        with np.load(tmp_path / "a.npz") as arrays:
            np.savez(tmp_path / "a.npz", **dict(arrays), test_images=pixels)
    elif kind == "webdataset":
        write_shard(tmp_path / "test.tar", [(f"{n}.png", png(image)) for n, image in enumerate(pixels)])
    else:
        write_table(tmp_path / "test.parquet", [(-1, image) for image in pixels], names="ab")
    catalogue = parts_of(kind, name)
    assert sizes(catalogue) == {"train": 20, "val": 20}
    assert [(out.reason, out.count) for out in catalogue.findings.left_out][:1] == [
        ("images without labels", 20)
    ]


@pytest.mark.parametrize("kind", ["folder", "webdataset", "hf", "dense", "predict"])
def test_hidden_things_are_left_out_at_any_depth_and_links_are_followed(tmp_path, kind):
    """Also links to folders above are no loop."""
    root, store = tmp_path / "data", tmp_path / "store"
    root.mkdir()
    store.mkdir()
    name = write("folder" if kind == "predict" else kind, root, ("val",))
    deep = {"folder": "val/a", "predict": "val/a", "dense": "images/val"}.get(kind, ".")
    inside = root / deep
    for path in list(inside.iterdir()):
        for hidden in (".ipynb_checkpoints", "__MACOSX", ".cache/huggingface"):
            (inside / hidden).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, inside / hidden)
        if path.is_file():
            path.rename(store / path.name)
    (inside / "more").symlink_to(store)
    (inside / "up").symlink_to(root)
    (inside / "gone").symlink_to(tmp_path / "nothing")
    if kind == "dense":
        (root / "masks/val/more").mkdir()
        for path in list((root / "masks/val").glob("*.png")):
            path.rename(root / "masks/val/more" / path.name)
    if kind == "predict":
        assert len(find_pictures([str(root)])) == 20
        return
    catalogue = parts_of(kind, name)
    assert sum(sizes(catalogue).values()) == 20
    reasons = {out.reason: out.count for out in catalogue.findings.left_out}
    assert reasons["hidden files and folders"] == 3
    assert reasons["links that lead nowhere"] == 1
    assert reasons["links to a folder above"] == 1


def test_links_to_one_folder_do_not_multiply(tmp_path):
    below = tmp_path / "0"
    below.mkdir()
    (below / "x.png").write_bytes(png(grey(1)[0]))
    for level in range(1, 20):
        (tmp_path / str(level)).mkdir()
        for link in "ab":
            (tmp_path / str(level) / link).symlink_to(tmp_path / str(level - 1))
    assert len(find_pictures([str(tmp_path / "19")])) <= 8


def test_of_several_images_in_a_sample_the_plain_ending_counts(tmp_path):
    picture, depth = (png(image) for image in grey(2))
    members = [
        (f"{n}.{ending}", content)
        for n in range(4)
        for ending, content in (("cls", str(n % 2).encode()), ("depth.png", depth), ("png", picture))
    ]
    catalogue = open_catalogue(f"webdataset:{write_shard(tmp_path / 'a.tar', members)}")
    assert [entry.name for entry in catalogue.parts["all"]] == [f"a.tar/{n}.png" for n in range(4)]
    (left,) = catalogue.findings.left_out
    assert (left.reason, left.count) == ("further images of a sample (.depth.png)", 4)


class TestListings:
    def listed(self, root, text, names, file="val.txt"):
        for label in ("cat", "big dog"):
            (root / "train" / label).mkdir(parents=True)
            (root / "train" / label / "0.png").write_bytes(png(grey(1)[0]))
        for name in names:
            (root / "val" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "val" / name).write_bytes(png(grey(1)[0]))
        (root / file).write_text(text, "utf-8")
        catalogue = open_catalogue(f"folder:{root}")
        return {entry.name.removeprefix("val/"): entry.label for entry in catalogue.parts["val"]}, catalogue

    @pytest.mark.parametrize(
        "text",
        [
            "IMG.1.png cat\nIMG.2.png big dog\n",
            "\ufeffIMG.1.png cat\nIMG.2.png big dog\n",
            "IMG.1 1\nIMG.2 0\n",
            'name,class\n"IMG.1.png","cat"\n"IMG.2.png","big dog"\n',
            "val/IMG.1.png\tcat\t0\t1\nval/IMG.2.png\tbig dog\t0\t1\n",
            "IMG.1.png;cat\r\nIMG.2.png;big dog\r\n",
        ],
    )
    def test_names_with_dots_and_classes_with_spaces_are_read(self, tmp_path, text):
        found, _ = self.listed(tmp_path, text, ["IMG.1.png", "IMG.2.png"])
        assert found == {"IMG.1.png": "cat", "IMG.2.png": "big dog"}

    @pytest.mark.parametrize("text", ['"my cat 1.png" cat\n', "my cat 1.png cat\n", "my cat 1.png,cat\n"])
    def test_names_with_spaces_are_read(self, tmp_path, text):
        assert self.listed(tmp_path, text, ["my cat 1.png"])[0] == {"my cat 1.png": "cat"}

    def test_the_exact_name_comes_before_the_stem(self, tmp_path):
        found, _ = self.listed(tmp_path, "a.png cat\na.jpg big dog\n", ["a.png", "a.jpg"])
        assert found == {"a.png": "cat", "a.jpg": "big dog"}

    @pytest.mark.parametrize(
        ("text", "names", "told"),
        [
            ("a cat\n", ["a.png", "a.jpg"], "'a' in a listing fits val/a.jpg and val/a.png"),
            ("a.png cat\na.png big dog\n", ["a.png"], "of class 'big dog' here, and 'cat' before"),
        ],
    )
    def test_what_is_ambiguous_is_refused(self, tmp_path, text, names, told):
        with pytest.raises(FileError, match=told):
            self.listed(tmp_path, text, names)

    def test_lines_without_image_are_reported(self, tmp_path):
        _, catalogue = self.listed(tmp_path, "a.png cat\nb.png 0\nc.png 1\n", ["a.png"])
        assert [(out.reason, out.count) for out in catalogue.findings.left_out] == [
            ("listed in val.txt, but not there", 2)
        ]


class TestManifests:
    def manifest(self, root, text):
        for name in ("a b.png", "c,d.png", "sub/e.png"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(png(grey(1)[0]))
        (root / "list.csv").write_bytes(text.encode("utf-8-sig"))
        return f"folder:{root / 'list.csv'}"

    def test_paths_labels_and_parts_are_read_as_written(self, tmp_path):
        text = 'path,label,split\r\na b.png,big dog,train\r\n"c,d.png",cat,dev\r\nsub\\e.png,cat,test\r\n'
        catalogue = open_catalogue(self.manifest(tmp_path, text))
        assert {part: [(e.name, e.label) for e in entries] for part, entries in catalogue.parts.items()} == {
            "train": [("a b.png", "big dog")],
            "val": [("c,d.png", "cat")],
            "test": [("sub/e.png", "cat")],
        }

    def test_label_and_split_may_be_missing(self, tmp_path):
        catalogue = open_catalogue(self.manifest(tmp_path, "file_name\na b.png\nsub/e.png\n"))
        assert not catalogue.labelled
        assert sizes(catalogue) == {"all": 2}

    def test_columns_of_other_names_are_said(self, tmp_path):
        name = self.manifest(tmp_path, "where,what,path\na b.png,x,1\nsub/e.png,y,2\n")
        catalogue = open_catalogue(name, columns={"image": "where", "label": "what"})
        assert [(e.name, e.label) for e in catalogue.parts["all"]] == [("a b.png", "x"), ("sub/e.png", "y")]

    def test_what_is_not_there_is_unreadable(self, tmp_path):
        lines = [f"none{n}.png,{'ab'[n % 2]}" for n in range(30)]
        name = self.manifest(tmp_path, "\n".join(["path,label", *lines]))
        with pytest.raises(FileError, match=r"none of the .* can be read") as caught:
            open_dataset(name, split="test", preprocessing=PLAIN)
        assert "No such file" in caught.value.hint

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("../x.png,a", "not a path inside"),
            ("/etc/x.png,a", "not a path inside"),
            ("sub/../../x.png,a", "not a path inside"),
            ("C:\\x.png,a", "not a path inside"),
            ("~/x.png,a", "not a path inside"),
            (",a", "not a path inside"),
            ("a b.png,b\na b.png,a", "with another label"),
        ],
    )
    def test_paths_that_lead_out_and_contradictions_are_refused(self, tmp_path, line, told):
        with pytest.raises(AdapError, match=told):
            open_catalogue(self.manifest(tmp_path, f"path,label\n{line}\nsub/e.png,b\n"))


def test_a_spec_is_recorded_with_content():
    spec = DataSpec(
        name="npz:a",
        parts={"dev": "val"},
        classes={"x": 1, "y": "z"},
        columns={"image": "i"},
        train_share=0.5,
    )
    assert DataSpec.from_dict(spec.to_dict()) == spec
    listed = DataSpec(name="npz:a", classes=("x", "y"))
    assert DataSpec.from_dict(listed.to_dict()) == listed
    for damage in (
        {"parts": ["a"]},
        {"classes": {"x": 1.5}},
        {"columns": {"image": 1}},
        {"train_share": "a"},
    ):
        with pytest.raises(FileError, match="record of the data is damaged"):
            DataSpec.from_dict(spec.to_dict() | damage)
