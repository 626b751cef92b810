"""A stranger's checkpoint executes nothing, asks for no memory it does not fill, and never hangs."""

import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import textwrap
import zipfile
from collections import OrderedDict
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import adapcli
from adapcli.errors import FileError

MEMORY = 512 << 20
pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def little_memory():
    """Half a gigabyte more than there is now: an attack that works fails the test, not the machine."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(scope="module")
def good(make_model, tmp_path_factory):
    """A small checkpoint in both forms."""
    folder = tmp_path_factory.mktemp("good")
    adapcli.save(make_model(), folder / "m")
    adapcli.save(make_model(), folder / "m.pt")
    return folder


class Call:
    """Pickles to a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Storage:
    """Pickles to a reference to the record data/`key`, said to hold `numel` values."""

    def __init__(self, key, numel, kind=torch.FloatStorage):
        self.pid = ("storage", kind, str(key), "cpu", numel)


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, Storage) else None


def pickled(content):
    import io

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue()


def view(key, numel, size, stride, kind=torch.FloatStorage):
    arguments = Storage(key, numel, kind), 0, size, stride, False, OrderedDict()
    return Call(torch._utils._rebuild_tensor_v2, *arguments)


def archive(path, program, records=(), *, compressed=False, folder="archive"):
    """A torch `.pt` made by hand."""
    how = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", how) as file:
        file.writestr(f"{folder}/data.pkl", program)
        file.writestr(f"{folder}/byteorder", "little")
        for key, content in dict(records).items():
            file.writestr(f"{folder}/data/{key}", content)
        file.writestr(f"{folder}/version", "3\n")
    return path


def refused(path, match, config=None):
    with pytest.raises(FileError, match=match) as caught:
        adapcli.load(path, model_config=config)
    assert caught.value.exit_code == 3
    assert len(caught.value.message) < 400 + len(str(path))
    assert "\n" not in caught.value.message.replace(str(path), "")
    return caught.value


def test_an_archive_made_by_hand_can_be_loaded(make_model, images, tmp_path):
    """Or the refusals below would prove nothing."""
    model = make_model()
    records = {i: t.numpy().tobytes() for i, t in enumerate(model.state_dict().values())}
    state = {
        name: view(i, t.numel(), tuple(t.shape), t.stride())
        for i, (name, t) in enumerate(model.state_dict().items())
    }
    path = archive(
        tmp_path / "m.pt", pickled({"config": model.config.to_dict(), "state_dict": state}), records
    )
    assert torch.equal(adapcli.load(path)(images).logits, model(images).logits)


# Nothing is executed


def payload(path):
    return Call(os.mkdir, str(path))


def payloads(folder, ran):
    """Every way to hide a call in a `.pt`."""
    archive(folder / "zip.pt", pickled(payload(ran)))
    archive(folder / "inside.pt", pickled({"config": {}, "state_dict": {"w": payload(ran)}}))
    archive(folder / "protocol4.pt", pickle.dumps(payload(ran), protocol=4))
    archive(folder / "eval.pt", pickled(Call(eval, f"__import__('os').mkdir({str(ran)!r})")))
    archive(folder / "getattr.pt", pickled(Call(getattr, Call(__import__, "os"), "mkdir")))
    archive(folder / "load.pt", pickled(Call(torch.load, str(folder / "raw.pt"))))
    torch.save({"w": payload(ran)}, folder / "saved.pt")
    torch.save(payload(ran), folder / "legacy.pt", _use_new_zipfile_serialization=False)
    (folder / "raw.pt").write_bytes(pickle.dumps(payload(ran)))
    (folder / "protocol0.pt").write_bytes(pickle.dumps(payload(ran), protocol=0))
    (folder / "raw.safetensors").write_bytes(pickle.dumps(payload(ran)))
    return sorted(path for path in folder.iterdir() if path.is_file())


def test_payloads_are_not_run(tmp_path):
    ran = tmp_path / "ran"
    folder = tmp_path / "files"
    folder.mkdir()
    paths = payloads(folder, ran)
    assert len(paths) == 11
    for path in paths:
        refused(path, ".", {"num_classes": 2})
        assert not ran.exists(), path.name
    for name in ("zip", "inside", "protocol4", "eval", "saved", "legacy", "raw"):
        error = refused(folder / f"{name}.pt", "refused: it holds Python objects .*; nothing was run")
        assert error.hint == "save a state_dict"
    (folder / "raw.pt").rename(folder / "weights")
    with suppress(Exception):
        pickle.loads((folder / "weights").read_bytes())
    assert ran.exists()  # the payload does work where it is let


def test_torchs_own_refusal_stands_behind_ours(tmp_path, monkeypatch):
    """Reading the program through comes before the weights-only reader, not instead of it."""
    monkeypatch.setattr("adapcli.model.weights._check_archive", lambda path: None)
    ran = tmp_path / "ran"
    archive(tmp_path / "m.pt", pickled({"w": payload(ran)}))
    refused(tmp_path / "m.pt", "refused: it holds Python objects .*; nothing was run")
    assert not ran.exists()


@pytest.mark.slow
def test_payloads_are_not_run_where_the_environment_asks_for_unsafe_loading(tmp_path):
    ran = tmp_path / "ran"
    folder = tmp_path / "files"
    folder.mkdir()
    payloads(folder, ran)
    code = """
        import sys
        from pathlib import Path
        import adapcli
        for path in sorted(Path(sys.argv[1]).iterdir()):
            try:
                adapcli.load(path, model_config={"num_classes": 2})
            except adapcli.AdapError as error:
                print(error.exit_code)
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)],
        env=os.environ | {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert told.stdout.split() == ["3"] * 11, told.stderr
    assert not ran.exists()


def test_a_whole_pickled_module_is_refused(make_model, tmp_path):
    torch.save(make_model(), tmp_path / "m.pt")
    torch.save({"model": make_model()}, tmp_path / "n.pt")
    for name in ("m.pt", "n.pt"):
        refused(tmp_path / name, "refused: it holds Python objects .*AdaPerceiver.*; nothing was run")


def test_a_torchscript_archive_is_refused(good, tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as new, zipfile.ZipFile(good / "m.pt") as old:
        for record in old.namelist():
            new.writestr(record, old.read(record))
        new.writestr(old.namelist()[0].split("/")[0] + "/constants.pkl", pickled(()))
    refused(tmp_path / "m.pt", "not a usable torch checkpoint")


# No memory that the file does not fill

SHAPE = (65_536, 65_536)
BOMBS = {
    "bytearray": pickled({"w": Call(bytearray, 10**11)}),
    "tensor of a size": pickled({"w": Call(torch.Tensor, 10**6, 10**5)}),
    "typed tensor": pickled({"w": Call(torch.FloatTensor, 10**11)}),
    "storage": pickled({"w": Call(torch.UntypedStorage, 10**11)}),
    "unknown function": pickled({"w": Call(torch.zeros, 10**11)}),
    "huge integers": pickled({i * (2**61 - 1): 0 for i in range(9, 100)}),
}


@pytest.mark.parametrize("program", BOMBS.values(), ids=BOMBS)
def test_programs_that_build_large_values_are_refused(tmp_path, program):
    refused(archive(tmp_path / "m.pt", program), "refused: it holds Python objects", {"num_classes": 2})


CLAIMS = {
    "beyond its storage": ({"w": view(0, 1024, (10**9,), (1,))}, "not a usable torch checkpoint"),
    "storage beyond its record": ({"w": view(0, 10**10, (10**10,), (1,))}, "not a usable torch checkpoint"),
    "one value repeated": ({"w": view(0, 1024, SHAPE, (0, 0))}, "more than the file holds"),
    "a row repeated": ({"w": view(0, 1024, (10**9, 4), (0, 1))}, "more than the file holds"),
    "one storage many times": (
        {f"w{i}": view(0, 1024, (1024,), (1,)) for i in range(999)},
        "more than the file",
    ),
    "meta": (
        {"w": Call(torch._utils._rebuild_meta_tensor_no_storage, torch.float32, SHAPE, (1, 1), False)},
        "refused",
    ),
    "negative": ({"w": view(0, 1024, (-4,), (1,))}, "not a usable torch checkpoint"),
}


@pytest.mark.parametrize(("state", "message"), CLAIMS.values(), ids=CLAIMS)
def test_tensors_that_claim_more_than_the_file_holds_are_refused(tmp_path, state, message):
    refused(
        archive(tmp_path / "m.pt", pickled(state), {0: bytes(4096)}), message, {"num_classes": 2, "depth": 1}
    )


@pytest.mark.parametrize("part", ["program", "record"])
def test_compressed_records_are_not_blown_up(tmp_path, part):
    zeros = bytes(200 << 20)
    program = pickled({"w": view(0, len(zeros) // 4, (len(zeros) // 4,), (1,))})
    if part == "program":
        program = b"\x80\x02" + b"N0" * (50 << 20) + b"N."
    path = archive(tmp_path / "m.pt", program, {0: zeros} if part == "record" else {}, compressed=True)
    assert path.stat().st_size < 1 << 20
    refused(path, "larger than the file", {"num_classes": 2})


def test_a_program_too_long_to_be_a_state_dict_is_not_read_through(tmp_path):
    program = b"\x80\x02](" + b"N" * (9 << 20) + b"e."
    refused(archive(tmp_path / "m.pt", program), "its pickle is too large", {"num_classes": 2})


def test_two_programs_in_one_archive_are_not_confused(tmp_path):
    """What is checked is what runs, whichever of the two the reader takes."""
    ran = tmp_path / "ran"
    harmless, harmful = pickled({"w": view(0, 4, (4,), (1,))}), pickled(payload(ran))
    for i, (first, second) in enumerate([(harmless, harmful), (harmful, harmless)]):
        for names in (
            ("a/data.pkl", "a/data.pkl"),
            ("a/data.pkl", "b/data.pkl"),
            ("a/data.pkl", "A/DATA.PKL"),
        ):
            path = tmp_path / f"{i}{names[1].replace('/', '')}.pt"
            twice = (
                pytest.warns(UserWarning, match="Duplicate name") if names[0] == names[1] else nullcontext()
            )
            with zipfile.ZipFile(path, "w") as file, twice:
                file.writestr(names[0], first)
                file.writestr("a/data/0", bytes(16))
                file.writestr("a/version", "3\n")
                file.writestr(names[1], second)
            refused(path, ".", {"num_classes": 2, "depth": 1})
            assert not ran.exists()


@pytest.mark.parametrize(
    "sizes", [{"depth": 1000}, {"embed_dim": 13_000, "depth": 4}, {"max_latent_tokens": 65_536}]
)
@pytest.mark.parametrize("form", ["m", "m.pt"])
def test_a_config_of_huge_sizes_asks_for_no_memory(good, tmp_path, sizes, form):
    config = {"num_classes": 5, "image_size": 12, "patch_size": 4, "in_channels": 1} | sizes
    refused(good / form, "tensors", config)


# Nothing hangs


def nest(levels):
    content = ()
    for _ in range(levels):
        content = (content, content)
    return content


def as_key(value):
    """The program of {value: None}, written without hashing the value."""
    body = pickled(value)
    assert body[-1:] == b"."
    return b"\x80\x02}" + body[2:-1] + b"Ns."


def test_a_nest_of_tuples_as_a_key_is_refused_before_it_is_hashed(tmp_path):
    refused(archive(tmp_path / "m.pt", as_key(nest(60))), "a nest of tuples", {"num_classes": 2})
    refused(archive(tmp_path / "n.pt", as_key((1, 2))), "holds no tensors", {"num_classes": 2})


def test_a_config_of_nested_lists_is_not_written_out(tmp_path):
    content = []
    for _ in range(200):
        content = [content, content]
    for key in ("depth", "widths", "surprise", "act_layer"):
        program = pickled(
            {"config": {"num_classes": 2, key: content}, "state_dict": {"w": view(0, 4, (4,), (1,))}}
        )
        refused(archive(tmp_path / "m.pt", program, {0: bytes(16)}), key)


def test_pipes_and_devices_are_not_waited_for(good, tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "zero.pt").symlink_to("/dev/zero")
    for name in ("pipe.pt", "zero.pt"):
        refused(tmp_path / name, "not a checkpoint", {"num_classes": 2})
    for name in ("config.json", "model.safetensors"):
        folder = tmp_path / name
        folder.mkdir()
        for other in ("config.json", "model.safetensors"):
            if other == name:
                os.mkfifo(folder / other)
            else:
                (folder / other).write_bytes((good / "m" / other).read_bytes())
        refused(folder, "missing in this folder")
        refused(folder / "model.safetensors", "config.json missing|not a checkpoint")


# Damaged files


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.pt", b"", "empty"),
        ("m.safetensors", b"", "empty"),
        ("m.pt", b"hello, this is text\n", "not a checkpoint"),
        ("m", b"hello", "not a checkpoint"),
        ("m.safetensors", b"hello, this is text\n", "not a usable safetensors file"),
        ("m.safetensors", struct.pack("<Q", 2**63), "not a usable safetensors file"),
        ("m.safetensors", struct.pack("<Q", 17 << 20) + b" " * 100, "header too large"),
        ("m.pt", b"PK\x05\x06" + bytes(18), "not a checkpoint"),
        ("m.pt", b"PK\x03\x04" + bytes(100), "not a usable torch checkpoint"),
        ("m.pt", b"PK\x03\x04", "not a usable torch checkpoint"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, message, {"num_classes": 2})


def test_archives_of_another_kind_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as file:
        file.writestr("word/document.xml", "<xml/>")
    refused(tmp_path / "m.pt", "not a usable torch checkpoint")
    for content in (torch.ones(3), [torch.ones(3)], 3, "text", None, (1, 2)):
        torch.save(content, tmp_path / "m.pt")
        refused(tmp_path / "m.pt", "not a state_dict", {"num_classes": 2})
    for content in ({}, {"a": 1}, {"state_dict": {}}, {3: torch.ones(3)}, {"model": {"a": [torch.ones(3)]}}):
        torch.save(content, tmp_path / "m.pt")
        refused(tmp_path / "m.pt", "holds no tensors", {"num_classes": 2})


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9, 0.999])
def test_files_cut_short_are_refused(good, tmp_path, share):
    for source in (good / "m.pt", good / "m" / "model.safetensors"):
        whole = source.read_bytes()
        cut = tmp_path / source.name
        cut.write_bytes(whole[: int(len(whole) * share)])
        refused(cut, "not a usable", json.loads((good / "m" / "config.json").read_text())["config"])


def test_any_damage_to_a_file_is_a_file_error_or_does_not_matter(good, tmp_path):
    damage = st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4
    )
    whole = {name: (good / name).read_bytes() for name in ("m.pt", "m/model.safetensors", "m/config.json")}
    (tmp_path / "m").mkdir()

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.sampled_from(sorted(whole)), damage, st.booleans())
    def check(name, changes, near_the_ends):
        content = bytearray(whole[name])
        for place, value in changes:
            # Half the time where programs, headers and directories are, not in the middle of the numbers.
            at = int((place * 2000 - 1000) if near_the_ends else place * len(content)) % len(content)
            content[at] = value
        for other, original in whole.items():
            (tmp_path / other).write_bytes(content if other == name else original)
        with suppress(FileError):
            adapcli.load(tmp_path / name.split("/")[0])

    check()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not usable JSON"),
        (b"not json", "not usable JSON"),
        (b"[]", "expected an object"),
        (b"3", "expected an object"),
        (b"[" * 10**6, "nested too deeply"),
        (b'{"depth": NaN}', "NaN is not JSON"),
        (b'{"depth": Infinity}', "Infinity is not JSON"),
        (b'{"depth": 1e999}', "out of range"),
        (b'{"depth": "21", "num_classes": 2}', "depth '21'"),
        (b'{"depth": 1000000000, "num_classes": 2}', "depth 1000000000"),
        (b'{"depth": ' + b"9" * 5000 + b"}", "not usable JSON"),
        (b'{"surprise": 1}', "surprise: unknown key"),
        (b'{"format": "adapcli-1", "config": {"surprise": 1}}', "surprise 1: unknown key"),
        (b'{"format": "adapcli-1"}', "holds no config"),
        (b'{"a": "' + b"x" * (5 << 20) + b'"}', "larger than 4 MB"),
        (b"{}", "num_classes"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_config_json_that_is_wrong_is_refused_with_its_field(good, tmp_path, content, message):
    (tmp_path / "model.safetensors").write_bytes((good / "m" / "model.safetensors").read_bytes())
    (tmp_path / "config.json").write_bytes(content)
    refused(tmp_path, message)


def test_the_hostile_files_did_not_grow_the_process(good):
    """Loading itself needs little: the limit above is not what held the attacks off."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        adapcli.load(good / "m.pt")
        load_file(good / "m" / "model.safetensors")
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 50
