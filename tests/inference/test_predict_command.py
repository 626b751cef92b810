"""`adap predict` as it is typed."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import adapcli
from adapcli.commands.options import flops_count
from adapcli.commands.predictions import Layout, cell, path_cell
from adapcli.data.images import read_image
from adapcli.data.transforms import preprocess
from adapcli.inference.predict import Prediction
from adapcli.main import main
from adapcli.model.flops import flops
from adapcli.space import Configuration
from policies import base
from policies.grid import Grid
from policies.table import OutcomeTable
from policies.threshold import Threshold

ROOT = Path(__file__).parent.parent.parent
NAMES = ["a", "=1+1", "b,c", 'd"e', "-5", "[red]f", "g\nh"]
COLUMNS = ["path", "class", "class_name", "confidence", "tokens", "width", "depth", "cost_flops"]


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(num_classes=10)


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "m.pt"
    adapcli.save(model, path)
    return path


@pytest.fixture(scope="module")
def swept(checkpoint, tmp_path_factory):
    """A run folder with a table and a policy that stops after one block, two or three."""
    run = tmp_path_factory.mktemp("swept") / "run"
    assert main(["sweep", "--ckpt", str(checkpoint), "--limit", "40", "--run", str(run), "--quiet"]) == 0
    table = OutcomeTable.load(run / "table")
    tau = float(np.median(table.signals[:, :2, 0]))
    base.save(Threshold(Grid.of(table), (0, 1, 2), tau), run / "policies" / "threshold")
    return run


@pytest.fixture
def adap(checkpoint, swept, tmp_path, monkeypatch, capsys):
    """Runs `adap predict` in a folder that holds nothing but pictures: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADAP_RUN", str(swept))
    for i in range(6):
        save(tmp_path / "pics" / f"{i}.png", seed=i)

    def run(*words, ckpt=checkpoint):
        capsys.readouterr()
        code = main(["predict", "--ckpt", str(ckpt), *map(str, words)])
        return code, *capsys.readouterr()

    return run


def save(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16), np.uint8)).save(path)


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


@torch.no_grad()
def answer(model, path, configuration):
    x = preprocess(read_image(Path(path), "L"), model.preprocessing)
    return model(x[None], configuration).logits[0].softmax(-1)


def test_rows_are_the_models_answers(adap, model):
    code, out, err = adap("pics", "--tokens", 2, "--depth", 2)
    assert code == 0, err
    found = rows(out)
    assert list(found[0]) == COLUMNS
    assert [row["path"] for row in found] == [f"pics/{i}.png" for i in range(6)]
    configuration = Configuration(2, 24, 2)
    cost = flops(model.config, configuration, readout="folded", attention="block")
    for row in found:
        share = answer(model, row["path"], configuration)
        assert int(row["class"]) == share.argmax()
        assert float(row["confidence"]) == pytest.approx(float(share.max()), abs=1e-5)
        assert [row[name] for name in COLUMNS[4:]] == ["2", "24", "2", str(cost)]
    assert "6 pictures in " in err


def test_the_full_configuration_without_choice_and_it_is_said(adap, model):
    _, out, err = adap("pics")
    assert {(r["tokens"], r["width"], r["depth"]) for r in rows(out)} == {("8", "24", "3")}
    assert "running the full one, t8 w24 l3" in err
    assert adap("pics", "--quiet") == (0, out, "")


def test_json_holds_the_same_and_more(adap):
    _, out, _ = adap("pics", "--top", 3, "--quiet")
    code, text, err = adap("pics", "--top", 3, "--json", "--quiet")
    found, first = json.loads(text), rows(out)[0]
    assert (code, err, found["schema_version"], found["skipped"]) == (0, "", 1, [])
    record = found["predictions"][0]
    assert [record[name] for name in ("path", "class", "cost_flops")] == [
        first["path"], int(first["class"]), int(first["cost_flops"])
    ]  # fmt: skip
    assert record["class_name"] is None
    assert [top["class"] for top in record["top"]] == [
        int(first[name]) for name in ("class", "class_2", "class_3")
    ]
    assert [f"{top['confidence']:.6g}" for top in record["top"]] == [
        first[name] for name in ("confidence", "confidence_2", "confidence_3")
    ]
    summary = found["summary"]
    assert (summary["images"], summary["skipped"]) == (6, 0)
    assert summary["mean_cost_flops"] == int(first["cost_flops"]) == summary["full_cost_flops"]
    assert summary["images_per_s"] == pytest.approx(6 / summary["seconds"])


def test_a_summary_in_place_of_rows(adap):
    code, out, _ = adap("pics", "--summary", "--depth", 1)
    assert code == 0
    assert "path,class" not in out
    for told in ("throughput", "images/s", "mean cost", "t8 w24 l1"):
        assert told in out
    _, text, _ = adap("pics", "--summary", "--json")
    found = json.loads(text)
    assert "predictions" not in found
    assert found["summary"]["configurations"] == [{"tokens": 8, "width": 24, "depth": 3, "images": 6}]


@pytest.mark.parametrize("place", [False, True])
def test_a_policy_by_name_or_by_place(adap, swept, model, place):
    name = swept / "policies" / "threshold" if place else "threshold"
    code, out, err = adap("pics", "--policy", name)
    assert code == 0, err
    assert "full one" not in err
    assert len({row["depth"] for row in rows(out)}) > 1
    for row in rows(out):
        configuration = Configuration(*(int(row[name]) for name in ("tokens", "width", "depth")))
        assert int(row["class"]) == answer(model, row["path"], configuration).argmax()


def test_a_budget_with_a_policy(adap):
    _, out, _ = adap("pics", "--policy", "threshold", "--quiet")
    least = min(int(row["cost_flops"]) for row in rows(out))
    code, out, err = adap("pics", "--policy", "threshold", "--max-flops", least, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert {p["cost_flops"] for p in found["predictions"]} == {least}


def test_paths_from_stdin(adap, monkeypatch):
    lines = b"pics/3.png\n\npics/1.png\r\n  \npics/5.png"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    _, out, _ = adap("pics/0.png", "-", "pics/2.png")
    assert [row["path"] for row in rows(out)] == [f"pics/{i}.png" for i in (0, 3, 1, 5, 2)]


def test_a_file_that_appears_when_all_is_done(adap, tmp_path):
    _, expected, _ = adap("pics")
    code, out, err = adap("pics", "-o", "out/a.csv")
    assert (code, out) == (0, "")
    assert "predictions: out/a.csv" in err
    assert (tmp_path / "out" / "a.csv").read_text() == expected
    assert adap("pics", "-o", "out/a.csv", "--depth", 1)[0] == 2
    assert (tmp_path / "out" / "a.csv").read_text() == expected
    _, text, _ = adap("pics", "-o", "out/a.csv", "--depth", 1, "--overwrite", "--json")
    found = json.loads(text)
    assert found["output"] == "out/a.csv"
    assert "predictions" not in found
    assert {row["depth"] for row in rows((tmp_path / "out" / "a.csv").read_text())} == {"1"}


def test_skipped_pictures_are_told_and_the_others_read(adap, tmp_path):
    for i in range(12):
        (tmp_path / "pics" / f"bad{i:02}.png").write_bytes(b"junk")
    code, out, err = adap("pics", "absent.png")
    assert (code, len(rows(out))) == (0, 6)
    warnings = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert warnings[0] == "warning: skipped pics/bad00.png: not a picture that Pillow can read"
    assert len(warnings) == 11
    assert warnings[-1] == "warning: and 3 more; --json lists all"
    _, text, _ = adap("pics", "absent.png", "--json")
    skipped = json.loads(text)["skipped"]
    assert len(skipped) == 13
    assert skipped[-1] == {"path": "absent.png", "reason": "No such file or directory"}


ODD = ["=cmd|calc.png", "+1.png", "a,b.png", 'q"q.png', "two\nlines.png", "\x1b[31m.png", "é \u202f👩‍🔬.png"]


def test_odd_paths_in_csv_stay_one_row_each(adap, tmp_path):
    for name in ODD:
        save(tmp_path / "odd" / name)
    (tmp_path / "odd" / "a,b.png").rename(tmp_path / "odd" / os.fsdecode(b"\xff.png"))
    code, out, err = adap("odd")
    assert code == 0, err
    found = [row["path"] for row in rows(out)]
    assert out.count("\n") == len(ODD) + 1
    assert "\x1b" not in out
    assert "odd/\\xff.png" in found
    assert "odd/two\\nlines.png" in found
    assert "odd/é \u202f👩‍🔬.png" in found  # as it is: it opens
    _, text, _ = adap("odd", "--json")
    told = {p["path"] for p in json.loads(text)["predictions"]}
    assert {"odd/two\nlines.png", "odd/\x1b[31m.png", "odd/\\xff.png"} < told


def test_a_path_that_a_spreadsheet_would_compute_opens_all_the_same(adap, tmp_path, monkeypatch):
    save(tmp_path / "=cmd.png")
    _, out, _ = adap("=cmd.png")
    (row,) = rows(out)
    assert row["path"] == "./=cmd.png"
    assert Path(row["path"]).exists()


def test_names_of_classes_cannot_compute_either():
    names = {name: cell(name) for name in [*NAMES, "@x", "+x", "\ud800"]}
    assert names == {
        "a": "a", "=1+1": "'=1+1", "b,c": "b,c", 'd"e': 'd"e', "-5": "-5", "[red]f": "[red]f",
        "g\nh": "g\\nh", "@x": "'@x", "+x": "'+x", "\ud800": "\\ud800",
    }  # fmt: skip
    assert path_cell("-x.png") == "./-x.png"
    prediction = Prediction("p", (2, 3), (0.5, 0.25), Configuration(1, 2, 3), 9)
    layout = Layout(NAMES, 2)
    assert rows("\n".join([",".join(layout.columns), layout.line(prediction)])) == [
        {
            **dict(zip(COLUMNS, ["p", "2", "b,c", "0.5", "1", "2", "3", "9"], strict=True)),
            "class_2": "3",
            "class_name_2": 'd"e',
            "confidence_2": "0.25",
        }
    ]
    assert layout.record(prediction)["class_name"] == "b,c"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5000000", 5_000_000),
        ("5e6", 5_000_000),
        ("5M", 5_000_000),
        ("1.5G", 1_500_000_000),
        ("2 GFLOPs", 2e9),
    ],
)
def test_flops_as_people_write_them(text, value):
    assert flops_count(text) == value


def spawn(words, cwd, **streams):
    command = [sys.executable, "-m", "adapcli", "predict", *words]
    return subprocess.Popen(
        command, cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, **streams
    )


@pytest.mark.slow
def test_a_reader_that_leaves_early(tmp_path):
    for i in range(4):
        save(tmp_path / "pics" / f"{i}.png", seed=i)
    listed = ("pics/0.png\n" * 3000).encode()
    job = spawn(["-", "--depth", "1", "-q"], tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE)  # fmt: skip
    job.stdin.write(listed)
    job.stdin.close()
    assert job.stdout.readline().startswith(b"path,")
    job.stdout.close()
    assert (job.wait(60), job.stderr.read()) == (1, b"")
    job.stderr.close()


@pytest.mark.slow
def test_rows_go_to_stdout_while_a_bar_is_on_the_terminal(tmp_path):
    """Rich would otherwise take them to where its bar is."""
    save(tmp_path / "0.png")
    terminal, end = os.openpty()
    job = spawn(["0.png"], tmp_path, stdout=subprocess.PIPE, stderr=end, stdin=subprocess.DEVNULL)
    os.close(end)
    talk = b""
    try:
        while piece := os.read(terminal, 4096):
            talk += piece
    except OSError:  # the terminal's other end is closed
        pass
    out, _ = job.communicate(timeout=60)
    os.close(terminal)
    assert (job.returncode, b"predicting" in talk) == (0, True)
    assert [row["path"] for row in rows(out.decode())] == ["0.png"]
    assert b"path,class" not in talk
