"""`python -m adapcli`, and the console script `adap`."""


def run() -> None:
    """Run the command line in this process and exit with its code."""
    from adapcli.main import main

    raise SystemExit(main())


if __name__ == "__main__":
    run()
