"""Help pages: every command says what it does and what each option is for, on any terminal."""

import pytest
import typer

from adapcli.main import COMMANDS, app, main

GROUP = typer.main.get_command(app)


def page(name, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


def test_every_command_is_listed_with_what_it_does(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in COMMANDS:
        summary = GROUP.commands[name].help.partition("\n")[0].rstrip(".")
        assert f"\n  {name} " in text
        assert summary.partition(" and ")[0][:40] in " ".join(text.split())


@pytest.mark.parametrize("columns", [20, 80])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_on_the_page_with_a_help_text(name, columns, monkeypatch, capsys):
    text = page(name, columns, monkeypatch, capsys)
    flat = "".join(text.split())
    for option in GROUP.commands[name].params:
        assert option.help, option.name
        assert all(spelling in flat for spelling in option.opts)
        assert "".join(option.help.split()) in flat


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_fits_its_terminal(name, monkeypatch, capsys):
    assert max(map(len, page(name, 80, monkeypatch, capsys).splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_options_for_scripts_are_everywhere(name):
    spelled = {spelling for option in GROUP.commands[name].params for spelling in option.opts}
    assert {"--json", "--quiet"} <= spelled
