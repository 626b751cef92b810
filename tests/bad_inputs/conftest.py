"""Commands typed wrongly, or given wrong files: how they are run here, and what a refusal looks like."""

import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import adapcli
from adapcli.main import main
from adapcli.model.preprocessing import Preprocessing

torch.set_num_threads(1)

ROOT = Path(__file__).parent.parent.parent
SMALL = {
    "embed_dim": 16,
    "num_heads": 2,
    "depth": 2,
    "max_latent_tokens": 4,
    "token_granularities": (1, 2, 4),
    "widths": (8, 16),
    "image_size": 16,
    "patch_size": 8,
    "in_channels": 1,
    "num_classes": 10,
    "use_embed_ffn": False,
    "layer_scale_init": 0.5,
    "token_init_std": 0.5,
}
EXAMPLE = """
name: tiny
batch: 8
model: {embed_dim: 16, num_heads: 2, depth: 2, max_latent_tokens: 4, token_granularities: [1, 2, 4],
        widths: [8, 16], image_size: 16, patch_size: 8, use_embed_ffn: false}
stages: [{name: all, steps: 4, axes: [tokens, depth, width]}]
log_every: 1
evaluate_every: 2
evaluate_samples: 8
save_every: 1
"""


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    def refused(self, code, *told):
        """One line says why, nothing is on stdout, and it was meant to be refused."""
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert (self.code, self.out, len(errors)) == (code, "", 1), self
        assert "Traceback" not in self.err
        assert "defect of adap" not in self.err, self.err
        for text in told:
            assert text in self.err
        return errors[0]


@pytest.fixture
def environment():
    """Environment variables of a process of its own, by name, as `changed` says."""
    return variables


def variables(**changed):
    kept = {name: value for name, value in os.environ.items() if name not in ("ADAP_RUN", "COLUMNS")}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **changed}


def command_line(*words):
    return [sys.executable, "-m", "adapcli", *(w if isinstance(w, bytes) else str(w) for w in words)]


@pytest.fixture
def adap(tmp_path, monkeypatch, capsys):
    """Runs a command in the empty folder `tmp_path`, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADAP_RUN", raising=False)

    def run(*words):
        capsys.readouterr()
        code = main([os.fsdecode(word) if isinstance(word, bytes) else str(word) for word in words])
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture
def spawn(tmp_path):
    """Starts a command in `tmp_path`, in a process of its own; environment variables by name."""

    def start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **changed):
        return subprocess.Popen(
            command_line(*words), cwd=tmp_path, env=variables(**changed), stdout=stdout, stderr=stderr
        )

    return start


@pytest.fixture(scope="session")
def make_model():
    """A classifier of the digits with random weights, or what `changed` makes of it."""

    def make(seed=0, **changed):
        torch.manual_seed(seed)
        config = adapcli.ModelConfig(**(SMALL | changed))
        side, channels = config.image_size, config.in_channels
        preprocessing = Preprocessing(side, side, (0.2,) * channels, (0.4,) * channels)
        return adapcli.AdaPerceiver(config, preprocessing=preprocessing).eval()

    return make


@pytest.fixture(scope="session")
def checkpoint(make_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "m.pt"
    adapcli.save(make_model(), path)
    return path


@pytest.fixture(scope="session")
def swept(checkpoint, tmp_path_factory):
    """A run folder with a table of 12 configurations on 198 scenes. Copy it: others use it too."""
    run = tmp_path_factory.mktemp("swept") / "run"
    words = ["sweep", "--ckpt", str(checkpoint), "--limit", "200", "--run", str(run), "--quiet"]
    assert main(words) == 0
    return run


@pytest.fixture
def run(swept, tmp_path):
    """A run folder of one's own, `adap-run` in the current folder, that holds a table."""
    shutil.copytree(swept, tmp_path / "adap-run")
    return tmp_path / "adap-run"


@pytest.fixture
def recipe(tmp_path):
    """A recipe file of four steps."""
    (tmp_path / "tiny.yaml").write_text(EXAMPLE)
    return tmp_path / "tiny.yaml"


@pytest.fixture
def contents():
    """The bytes of every file in a folder, by path: to see that nothing was lost."""

    def read(folder):
        return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    return read


@pytest.fixture
def disk_space():
    """A context in which no file grows beyond so many bytes, as on a full disk."""

    @contextmanager
    def limited(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
