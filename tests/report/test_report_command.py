import json
import shutil
import sys

import pytest

from adapcli.main import main
from adapcli.report import build
from adapcli.run import Run


@pytest.fixture
def undrawn(monkeypatch):
    """Everything but the figures, which take seconds."""
    monkeypatch.setattr(build, "_write_figure", lambda drawing, folder: "")


@pytest.fixture
def run(tmp_path, synthetic_table, make_run):
    return make_run(tmp_path / "run", synthetic_table)


def test_it_says_what_to_do_and_where_the_page_is(undrawn, run, capsys):
    assert main(["report", "--run", str(run.folder)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Static choice: Run t=")
    assert "Per-sample policy: Policy " in out
    assert "hindsight oracle (not achievable)" in out
    assert out.endswith(f"report: {run.report / 'index.html'}\n")


def test_a_report_is_made_anew_without_asking(undrawn, run):
    assert main(["report", "--run", str(run.folder), "--quiet"]) == 0
    (run.report / "stale.txt").write_text("x")
    assert main(["report", "--run", str(run.folder), "--quiet"]) == 0
    assert not (run.report / "stale.txt").exists()


def test_json_is_one_object_and_quiet_is_quiet(undrawn, run, capsys):
    assert main(["report", "--run", str(run.folder), "--json", "--quiet"]) == 0
    captured = capsys.readouterr()
    content = json.loads(captured.out, parse_constant=lambda name: pytest.fail(name))
    assert content["schema_version"] == 1
    assert content["report"] == str(run.report / "index.html")
    assert captured.err == ""


def test_what_is_missing_is_told_with_its_command(undrawn, tmp_path, synthetic_table, make_run, capsys):
    run = make_run(tmp_path, synthetic_table, target=None, policies=False)
    assert main(["report", "--run", str(run.folder)]) == 0
    out = capsys.readouterr().out
    assert f"adap search --run {run.folder} --flops-target 0.7" in out
    assert f"adap train-policy --run {run.folder} --algo threshold" in out


def test_no_table_names_the_sweep(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADAP_RUN", raising=False)
    assert main(["report"]) == 3
    err = capsys.readouterr().err
    assert "no outcome table in adap-run" in err
    assert "adap sweep" in err
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert main(["report", "--run", str(tmp_path / "file")]) == 2
    assert "is a file, not a run folder" in capsys.readouterr().err


def test_comparing_with_nothing_says_which_run_lacks_a_table(undrawn, run, tmp_path, capsys):
    other = tmp_path / "other"
    assert main(["report", "--run", str(run.folder), "--compare", str(other)]) == 3
    assert f"no outcome table in {other}" in capsys.readouterr().err
    assert not run.report.exists()


def test_comparing_other_data_is_refused(undrawn, run, tmp_path, make_table, capsys):
    other = Run.open(tmp_path / "other")
    make_table().save(other.table)
    assert main(["report", "--run", str(run.folder), "--compare", str(other.folder)]) == 3
    err = capsys.readouterr().err
    assert "cannot be compared" in err
    assert "Traceback" not in err


def test_comparing_adds_a_section(undrawn, run, tmp_path, synthetic_table, make_run, capsys):
    other = make_run(tmp_path / "other", synthetic_table, policies=False)
    assert main(["report", "--run", str(run.folder), "--compare", str(other.folder), "--json"]) == 0
    assert "comparison_at_equal_cost" in json.loads(capsys.readouterr().out)["tables"]


@pytest.mark.parametrize(
    "file", ["search/search.json", "policies/hasty/policy.json", "run.json", "table/meta.json"]
)
def test_a_damaged_file_is_named(undrawn, run, file, capsys):
    (run.folder / file).write_text('{"schema_version": 1, "half')
    assert main(["report", "--run", str(run.folder)]) == 3
    err = capsys.readouterr().err
    assert file.rpartition("/")[2] in err
    assert "Traceback" not in err
    assert not run.report.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="file names need not be text")
def test_odd_folder_names_are_fine(run, capsys):
    folder = run.folder.rename(run.folder.parent / "a b [red] $x^2$ <b>'\"& caf\udce9 \x1b[31m")
    other = shutil.copytree(folder, folder.with_name(f"{folder.name} too"))
    assert main(["report", "--run", str(folder), "--compare", str(other), "--quiet"]) == 0
    page = (folder / "report" / "index.html").read_text("utf-8")
    assert "<b>'" not in page
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert "\x1b" not in captured.out


def test_a_page_may_be_opened(undrawn, run, monkeypatch):
    opened = []
    monkeypatch.setattr("typer.launch", opened.append)
    assert main(["report", "--run", str(run.folder), "--open", "--quiet"]) == 0
    assert opened == [str((run.report / "index.html").resolve())]
