"""hf sources: saved folders and Parquet, on disk or elsewhere; what is skipped, what is refused."""

import itertools
import json
import shutil

import pytest

from adapcli.data import tables
from adapcli.data.catalogue import open_catalogue
from adapcli.data.dataset import open_dataset
from adapcli.errors import FileError, UnavailableError

from .conftest import PLAIN, grey, labels_of, png, whole, write_table


def rows(count, start=0):
    return [(n % 3, grey(1, n)[0]) for n in range(start, start + count)]


class TestTables:
    def test_rows_of_a_block_stay_together(self, tmp_path):
        write_table(tmp_path / "a.parquet", rows(120), row_group_size=10)
        data = open_dataset(f"hf:{tmp_path}", split="test", preprocessing=PLAIN)
        groups = [int(name.split("/")[1]) // 10 for name in data.batch(0, len(data)).sample_ids]
        changes = sum(one != two for one, two in itertools.pairwise(groups))
        assert changes == len(set(groups)) - 1
        assert sorted(set(groups)) != list(dict.fromkeys(groups))

    def test_only_the_groups_that_are_needed_are_read(self, tmp_path, monkeypatch):
        write_table(tmp_path / "a.parquet", rows(400), row_group_size=10)
        read, original = set(), tables.ParquetFile._column
        monkeypatch.setattr(
            tables.ParquetFile, "_column", lambda self, number: read.add(number) or original(self, number)
        )
        data = open_dataset(f"hf:{tmp_path}", split="test", preprocessing=PLAIN, limit=12)
        data.batch(0, len(data))
        assert 2 <= len(read) <= 8

    def test_few_groups_are_kept(self, tmp_path, monkeypatch):
        write_table(tmp_path / "a.parquet", rows(60), row_group_size=10)
        monkeypatch.setattr(tables, "KEPT_BYTES", 1)
        file = open_catalogue(f"hf:{tmp_path}").parts["all"][0].file
        for row in range(60):
            file.picture(row)
        assert len(file._parquet().groups) == 1

    def test_large_groups_are_refused(self, tmp_path, monkeypatch):
        write_table(tmp_path / "a.parquet", rows(60))
        monkeypatch.setattr(tables, "memory_bytes", lambda: 1000)
        with pytest.raises(FileError, match="a group of rows of") as caught:
            open_catalogue(f"hf:{tmp_path}")
        assert "fewer rows" in caught.value.hint

    def test_parts_by_the_names_of_files(self, tmp_path):
        for number, part in enumerate(("train", "validation", "test")):
            write_table(tmp_path / "data" / f"{part}-00000-of-00001.parquet", rows(30, 100 * number))
        train = open_dataset(f"hf:{tmp_path}", split="train", preprocessing=PLAIN)
        assert len(train) == 30
        assert len(labels_of(f"hf:{tmp_path}")) == 60

    def test_the_fingerprint_follows_the_content_and_not_the_place(self, tmp_path):
        def fingerprint(folder):
            return open_dataset(f"hf:{folder}", split="test", preprocessing=PLAIN).fingerprint

        write_table(tmp_path / "a" / "x.parquet", rows(60))
        write_table(tmp_path / "b" / "x.parquet", rows(60))
        write_table(tmp_path / "c" / "x.parquet", [*rows(59), (0, grey(1, 999)[0])])
        assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b") != fingerprint(tmp_path / "c")

    def test_rows_without_picture_or_class_are_skipped(self, tmp_path):
        import pyarrow as pa
        import pyarrow.parquet as pq

        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        pictures = [{"bytes": png(array), "path": None} for _, array in rows(60)]
        secret = tmp_path / "secret.png"
        secret.write_bytes(png(grey(1)[0]))
        pictures[3], pictures[4], pictures[5] = (
            {"bytes": None, "path": str(secret)},
            None,
            {"bytes": b"x", "path": None},
        )
        classes = [label for label, _ in rows(60)]
        classes[6], classes[7] = None, -1
        table = pa.table({"img": pa.array(pictures, kind), "label": pa.array(classes, pa.int64())})
        pq.write_table(table, tmp_path / "a.parquet")
        skipped = {s.path.split("/")[1]: s.reason for s in whole(f"hf:{tmp_path}")[1]}
        assert skipped == {
            "00000003": "no bytes in it; a path or an address is not followed",
            "00000004": "no bytes in it; a path or an address is not followed",
            "00000005": "not a picture that Pillow can read",
            "00000006": "label None",
            "00000007": "label -1",
        }

    @pytest.mark.parametrize("damage", [b"", b"no table", "cut"])
    def test_a_damaged_file_is_refused(self, tmp_path, damage):
        path = write_table(tmp_path / "a.parquet", rows(60))
        path.write_bytes(path.read_bytes()[:-200] if damage == "cut" else damage)
        with pytest.raises(FileError, match=r"a\.parquet: not a file of Parquet"):
            open_catalogue(f"hf:{tmp_path}")

    def test_a_damaged_group_is_skipped(self, tmp_path):
        path = write_table(
            tmp_path / "a.parquet", rows(120), row_group_size=10, compression="none", write_page_checksum=True
        )
        content = bytearray(path.read_bytes())
        content[400:500] = b"\xff" * 100
        path.write_bytes(content)
        batches, skipped = whole(f"hf:{tmp_path}")
        assert len(skipped) == 10
        assert sum(len(batch.sample_ids) for batch in batches) == 110

    def test_other_columns_are_refused(self, tmp_path):
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "a.parquet")
        with pytest.raises(FileError, match="no column of images in it") as caught:
            open_catalogue(f"hf:{tmp_path}")
        assert "found text, label" in caught.value.hint

    def test_files_elsewhere_are_read_by_the_group(self, tmp_path, monkeypatch):
        """As on the hub, with a file system of fsspec that lies in memory."""
        import fsspec

        from adapcli.data import hf

        memory = fsspec.filesystem("memory")
        local = write_table(tmp_path / "test-0.parquet", rows(60), row_group_size=10)
        memory.pipe("/datasets/owner/name/data/test-0.parquet", local.read_bytes())
        monkeypatch.setattr(hf, "_hub", lambda: Hub(memory))
        assert labels_of("hf:owner/name") == {
            f"data/{name}": label for name, label in labels_of(f"hf:{local}").items()
        }
        with pytest.raises(FileError, match=r"no \.parquet files of that name on the hub"):
            open_catalogue("hf:owner/other")

    def test_without_network_the_hub_is_told(self, monkeypatch):
        from adapcli.data import hf

        class Offline:
            def glob(self, pattern):
                raise ConnectionError("no route to host\nat all")

        monkeypatch.setattr(hf, "_hub", Offline)
        with pytest.raises(UnavailableError, match=r"hf:owner/name: cannot be fetched: no route to host$"):
            open_catalogue("hf:owner/name")

    def test_without_the_extra_it_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
        with pytest.raises(UnavailableError) as caught:
            open_catalogue("hf:anything")
        assert caught.value.hint == "pip install 'adapcli[data]'"


class Hub:
    """The part of the hub's file system that is used, over another one."""

    def __init__(self, files):
        self.files = files

    def glob(self, pattern):
        return [path.removeprefix("/") for path in self.files.glob("/" + pattern)]

    def open(self, path, mode):
        return self.files.open("/" + path, mode)


class TestSaved:
    def test_splits_of_a_dict_are_parts(self, tmp_path):
        import datasets

        datasets.disable_progress_bars()
        features = datasets.Features(
            {"img": datasets.Image(), "fine": datasets.ClassLabel(names=list("abc"))}
        )
        made = {}
        for number, part in enumerate(("train", "validation", "test")):
            columns = {
                "img": [{"bytes": png(a)} for _, a in rows(30, 100 * number)],
                "fine": [n % 3 for n in range(30)],
            }
            made[part] = datasets.Dataset.from_dict(columns, features=features)
        datasets.DatasetDict(made).save_to_disk(tmp_path / "d")
        name = f"hf:{tmp_path / 'd'}"
        train = open_dataset(name, split="train", preprocessing=PLAIN)
        assert len(train) == 30
        assert train.class_names == ["a", "b", "c"]
        assert {i.split("/")[0] for i in labels_of(name)} == {"validation", "test"}

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"_data_files": [{"filename": "../other.arrow"}]}, "names a file that is not in it"),
            ({"_data_files": [{"filename": "/etc/passwd"}]}, "names a file that is not in it"),
            ({"_data_files": ["x"]}, "names a file that is not in it"),
            ({"_data_files": []}, "no data set in it"),
            ({"_indices_files": [{"filename": "i.arrow"}]}, "rows chosen by a list of indices"),
        ],
    )
    def test_a_state_that_points_elsewhere_is_refused(self, picture_saved, tmp_path, change, told):
        shutil.copytree(picture_saved, tmp_path / "s")
        state = json.loads((tmp_path / "s" / "state.json").read_text())
        (tmp_path / "s" / "state.json").write_text(json.dumps(state | change))
        with pytest.raises(FileError, match=told):
            open_catalogue(f"hf:{tmp_path / 's'}")

    @pytest.mark.parametrize("damage", [b"", b"no arrow file at all", "cut"])
    def test_a_damaged_file_is_refused_by_name(self, picture_saved, tmp_path, damage):
        shutil.copytree(picture_saved, tmp_path / "s")
        path = tmp_path / "s" / "data-00001-of-00002.arrow"
        path.write_bytes(path.read_bytes()[:-5000] if damage == "cut" else damage)
        with pytest.raises(FileError, match=r"data-00001-of-00002\.arrow: not a file of Arrow"):
            open_catalogue(f"hf:{tmp_path / 's'}")

    def test_a_place_that_is_not_there_is_refused(self, tmp_path):
        with pytest.raises(FileError, match="no such file or folder"):
            open_catalogue(f"hf:{tmp_path / 'a' / 'b'}")
