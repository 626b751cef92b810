"""`python -m adapcli`, and the console script `adap`."""

import os
import signal
import sys

from adapcli.errors import INTERRUPTED, TERMINATED


def run() -> None:
    """Run the command line in this process and exit with its code."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(TERMINATED))
    os.environ.pop("MPLBACKEND", None)  # other packages import matplotlib too: see adapcli.plotting
    try:
        from adapcli.main import main

        code = main()
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise SystemExit(code)


if __name__ == "__main__":
    run()
