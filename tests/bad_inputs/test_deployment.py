"""`adap extract` and `adap export` with wrong values and places."""

import os

import pytest

import adapcli

WRITES = [("extract", "small"), ("extract", "small.pt"), ("export", "m.pt2")]
WRITING = pytest.mark.parametrize(("command", "name"), WRITES)
ALL = pytest.mark.parametrize(("command", "name"), [*WRITES, ("export", "m.onnx")])


@ALL
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--tokens", "3"], ["tokens 3: not allowed", "allowed: 1, 2, 4"]),
        (["--tokens", "0"], ["expected a whole number from 1"]),
        (["--tokens", "many"], ["expected a whole number from 1"]),
        (["--width", "12"], ["width 12: not allowed", "allowed: 8, 16"]),
        (["--width", "8.5"], ["expected a whole number from 1"]),
        (["--depth", "99"], ["depth 99: not allowed", "allowed: 1, 2"]),
        (["--depth", "-1"], ["expected a whole number from 1"]),
    ],
)
def test_values_that_are_not_allowed(adap, tmp_path, checkpoint, command, name, words, told):
    adap(command, "--ckpt", checkpoint, *words, "-o", name).refused(2, *told)
    assert list(tmp_path.iterdir()) == []


@ALL
def test_without_a_place_to_write_to(adap, checkpoint, command, name):
    adap(command, "--ckpt", checkpoint).refused(2, "--output")


@ALL
def test_a_checkpoint_that_is_not_there(adap, tmp_path, command, name):
    adap(command, "--ckpt", "no.pt", "-o", name).refused(3, "no.pt: no such file")
    assert list(tmp_path.iterdir()) == []


@WRITING
def test_what_is_there_stays_unless_it_may_be_overwritten(
    adap, tmp_path, checkpoint, contents, command, name
):
    words = [command, "--ckpt", checkpoint, "--tokens", "1", "-o", name]
    assert adap(*words, "--depth", "2").code == 0
    before = contents(tmp_path)
    adap(*words).refused(2, f"{name} exists already", "--overwrite")
    assert contents(tmp_path) == before
    assert adap(*words, "--depth", "1", "--overwrite").code == 0
    assert contents(tmp_path) != before


@ALL
def test_a_folder_of_other_things_is_never_replaced(adap, tmp_path, checkpoint, contents, command, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    ended = adap(command, "--ckpt", checkpoint, "-o", name, "--overwrite")
    assert ended.code in (1, 2)
    assert ended.err.count("error: ") == 1
    assert name in ended.err.partition("error: ")[2]
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("source", "output"), [("m", "m"), ("m/model.safetensors", "m"), ("m.pt", "m.pt")])
def test_a_checkpoint_is_not_replaced_by_a_part_of_itself(
    adap, tmp_path, make_model, contents, source, output
):
    adapcli.save(make_model(), tmp_path / "m")
    adapcli.save(make_model(), tmp_path / "m.pt")
    before = contents(tmp_path)
    ended = adap("extract", "--ckpt", source, "--depth", "1", "-o", output, "--overwrite")
    ended.refused(2, f"{output} holds the checkpoint itself")
    assert contents(tmp_path) == before


@WRITING
def test_a_device_or_a_pipe_is_never_replaced(adap, tmp_path, checkpoint, command, name):
    os.mkfifo(tmp_path / name)
    words = [command, "--ckpt", checkpoint, "-o", name, "--overwrite"]
    adap(*words).refused(2, f"{name}: neither a file nor a folder")
    assert (tmp_path / name).is_fifo()


def test_weights_alone_are_not_written(adap, tmp_path, checkpoint):
    adap("extract", "--ckpt", checkpoint, "-o", "m.safetensors").refused(2, "m.safetensors: weights alone")
    assert list(tmp_path.iterdir()) == []


@WRITING
def test_a_full_disk_leaves_nothing_half(adap, tmp_path, checkpoint, disk_space, command, name):
    with disk_space(4096):
        adap(command, "--ckpt", checkpoint, "--tokens", "1", "--depth", "1", "-o", name).refused(
            1, "cannot write"
        )
    assert list(tmp_path.iterdir()) == []


def test_formats_that_are_not_known(adap, tmp_path, checkpoint):
    words = ["export", "--ckpt", checkpoint, "-o"]
    adap(*words, "m.trt").refused(2, "m.trt: cannot tell the format", "allowed: onnx, pt2")
    adap(*words, "m.onnx", "--format", "tflite").refused(
        2, "format 'tflite': not known", "allowed: onnx, pt2"
    )
    assert list(tmp_path.iterdir()) == []
