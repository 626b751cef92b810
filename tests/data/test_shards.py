"""webdataset sources: parts, labels, what is skipped or refused, and that nothing is unpacked."""

import io
import json
import tarfile

import pytest

from adapcli.data.catalogue import open_catalogue
from adapcli.data.dataset import open_dataset
from adapcli.errors import FileError

from .conftest import CLASSES, PLAIN, grey, labels_of, png, whole, write_shard


def shard_of(count, *, ending="cls", label=lambda n: str(n % 3).encode(), start=0):
    return [
        (f"{n:04d}.{e}", content)
        for n in range(start, start + count)
        for e, content in (("png", png(grey(1, n)[0])), (ending, label(n)))
    ]


class TestShards:
    def test_labels_by_number_by_name_and_in_json(self, tmp_path):
        kinds = {
            "cls": lambda n: f" {n % 3}\n".encode(),
            "json": lambda n: json.dumps({"label": n % 3, "more": [1]}).encode(),
        }
        found = []
        for ending, label in kinds.items():
            write_shard(tmp_path / f"{ending}.tar", shard_of(60, ending=ending, label=label))
            labels = labels_of(f"webdataset:{tmp_path / f'{ending}.tar'}")
            found.append({name.split("/")[1]: label for name, label in labels.items()})
        assert found[0] == found[1] == {f"{n:04d}.png": n % 3 for n in range(60)}
        write_shard(tmp_path / "n.tar", shard_of(60, label=lambda n: CLASSES[n % 3].encode()))
        opened = open_catalogue(f"webdataset:{tmp_path / 'n.tar'}")
        assert tuple(opened.labels) == CLASSES

    def test_names_of_numbers_lie_beside_the_shards(self, tmp_path):
        write_shard(tmp_path / "a.tar", shard_of(60))
        (tmp_path / "classnames.txt").write_text("\n".join(CLASSES) + "\n")
        data = open_dataset(f"webdataset:{tmp_path}", split="test", preprocessing=PLAIN)
        assert tuple(data.class_names) == CLASSES
        assert set(data.batch(0, len(data)).targets.tolist()) == {0, 1, 2}

    @pytest.mark.parametrize("place", ["{}-{:04d}.tar", "{}/{:04d}.tar"])
    def test_parts_by_the_names_of_shards_or_folders(self, tmp_path, place):
        for number, part in enumerate(("train", "val", "test")):
            for shard in range(2):
                first = 100 * number + 50 * shard
                write_shard(tmp_path / place.format(part, shard), shard_of(30, start=first))
        name = f"webdataset:{tmp_path}"
        train = open_dataset(name, split="train", preprocessing=PLAIN)
        assert len(train) == 60
        test = open_dataset(name, split="test", preprocessing=PLAIN)
        assert {int(i.split("/")[-1][:4]) for i in test.batch(0, 60).sample_ids} == {
            *range(200, 230),
            *range(250, 280),
        }
        assert len(labels_of(name)) == 120

    def test_broken_samples_and_shards_are_skipped_once_each(self, tmp_path):
        members = shard_of(60)
        members[6] = ("0003.png", b"no picture")
        members[9] = ("0004.cls", b"\xff\xfe")
        members[11] = ("0005.json", b"[" * 100_000)
        del members[13]
        members += [("lonely.cls", b"1"), ("notes.txt", b"not a sample"), ("x.pyd", b"never read")]
        write_shard(tmp_path / "a.tar", members)
        (tmp_path / "b.tar").write_text("no tar file, but as long as a block of one " * 50)
        (tmp_path / "c.tar").write_bytes(
            write_shard(tmp_path / "d", shard_of(9, start=500)).read_bytes()[:5000]
        )
        (tmp_path / "d").unlink()
        batches, skipped = whole(f"webdataset:{tmp_path}")
        reasons = {skip.path: skip.reason for skip in skipped}
        assert len(reasons) == len(skipped)
        assert reasons.pop("a.tar/0003.png") == "not a picture that Pillow can read"
        assert reasons.pop("a.tar/0004").startswith(".cls: ")
        assert reasons.pop("a.tar/0005").startswith(".json: ")
        assert reasons.pop("a.tar/0006.png") == "no class: expected .cls or .json"
        assert reasons.pop("a.tar/lonely") == "no picture"
        assert reasons.pop("b.tar").startswith("not a whole tar file")
        assert reasons.pop("c.tar").startswith("not a whole tar file")
        cut = [name for name in reasons if name.startswith("c.tar/")]
        assert len(cut) == len(reasons) <= 1
        names = {name for batch in batches for name in batch.sample_ids}
        assert sum(name.startswith("a.tar") for name in names) == 56
        assert any(name.startswith("c.tar") for name in names)

    def test_garbage_in_the_middle_is_told(self, tmp_path):
        path = write_shard(tmp_path / "a.tar", shard_of(60))
        content = bytearray(path.read_bytes())
        with tarfile.open(path) as archive:
            place = archive.getmembers()[80].offset
        content[place : place + 512] = b"\x01" * 512
        path.write_bytes(content)
        batches, skipped = whole(f"webdataset:{path}")
        assert sum(len(batch.sample_ids) for batch in batches) == 40
        assert [s.reason for s in skipped] == [f"not a whole tar file: no header at byte {place}"]

    def test_links_and_sparse_members_are_left_alone(self, tmp_path):
        path = write_shard(tmp_path / "a.tar", shard_of(60))
        (tmp_path / "secret.png").write_bytes(png(grey(1)[0]))
        with tarfile.open(path, "a") as archive:
            for kind, name in ((tarfile.SYMTYPE, "s"), (tarfile.LNKTYPE, "h")):
                link = tarfile.TarInfo(f"{name}.png")
                link.type, link.linkname = kind, str(tmp_path / "secret.png")
                archive.addfile(link)
                info = tarfile.TarInfo(f"{name}.cls")
                info.size = 1
                archive.addfile(info, io.BytesIO(b"1"))
        batches, skipped = whole(f"webdataset:{path}")
        assert sum(len(batch.sample_ids) for batch in batches) == 60
        assert {s.reason for s in skipped} == {"no picture"}

    @pytest.mark.parametrize("name", ["../../etc/passwd.png", "/etc/x.png", "a/../b.png"])
    def test_nothing_is_written_wherever_a_name_points(self, tmp_path, name, monkeypatch):
        members = [*shard_of(60), (name, png(grey(1)[0])), (name[:-3] + "cls", b"1")]
        (tmp_path / "in").mkdir()
        path = write_shard(tmp_path / "in" / "a.tar", members)
        before = sorted(tmp_path.rglob("*"))
        assert len(labels_of(f"webdataset:{path}")) == 61
        assert sorted(tmp_path.rglob("*")) == before

    def test_a_size_beyond_the_shard_is_no_memory_spent(self, tmp_path):
        path = write_shard(tmp_path / "a.tar", shard_of(60))
        with tarfile.open(path, "a") as archive:
            info = tarfile.TarInfo("huge.cls")
            info.size = 1
            archive.addfile(info, io.BytesIO(b"1"))
            info = tarfile.TarInfo("huge.png")
            info.size = 10**12
            place = archive.offset
            header = info.tobuf(tarfile.GNU_FORMAT)
        content = bytearray(path.read_bytes())
        path.write_bytes(content[:place] + header + bytes(100))
        skipped = {s.path: s.reason for s in whole(f"webdataset:{path}")[1]}
        assert skipped["a.tar/huge.png"] == "1,000,000,000,000 bytes, more than 268,435,456"

    @pytest.mark.parametrize(
        ("files", "told"),
        [
            ({}, "no .tar files in it"),
            ({"a.tar.gz": b"x"}, "no .tar files in it"),
            ({"a.tar": b""}, "no image with a class in its shards"),
            ({"a.tar": b"x" * 2000}, "no image with a class in its shards"),
        ],
    )
    def test_places_without_shards_are_refused(self, tmp_path, files, told):
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        with pytest.raises(FileError, match=told) as caught:
            open_catalogue(f"webdataset:{tmp_path}")
        assert ("gunzip" in caught.value.hint) == ("a.tar.gz" in files)

    def test_a_place_that_is_not_there_is_refused(self, tmp_path):
        with pytest.raises(FileError, match="none: no such file or folder"):
            open_catalogue(f"webdataset:{tmp_path / 'none'}")

    def test_a_shard_that_changed_is_listed_anew(self, tmp_path):
        path = write_shard(tmp_path / "a.tar", shard_of(60))
        assert len(labels_of(f"webdataset:{path}")) == 60
        write_shard(path, shard_of(70))
        assert len(labels_of(f"webdataset:{path}")) == 70
