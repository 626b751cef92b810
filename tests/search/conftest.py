import pytest

from adapcli.main import main


@pytest.fixture
def adap(run, capsys):
    """`adap search` on a test file's own `run`: exit code, stdout and stderr."""

    def call(*arguments):
        code = main(["search", "--run", str(run), *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return call
