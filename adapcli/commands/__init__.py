"""The commands of `adap`, one file each; `adapcli.main.COMMANDS` lists them in the order of the help page.

The file is named after the command (`train_policy.py` for `train-policy`) and holds one public function of
the same name. Its signature is the interface and its docstring the help. It parses, calls the library and
shows the result in at most 25 lines; whatever is slow to import (torch, pandas, matplotlib, our own rooms) is
imported inside it:

    def search(
        run: RunFolder = None,
        flops_target: FlopsTarget = None,
        overwrite: Overwrite = False,
        json: Json = False,
        quiet: Quiet = False,
    ) -> None:
        \"""Choose the configurations worth running.\"""
        from adapcli.run import Run
        from adapcli.search import exhaustive

        console = Console(json=json, quiet=quiet)
        folder = Run.open(run)
        table = folder.require("table")                             # FileError: run `adap sweep` first
        target = folder.claim("search", overwrite=overwrite)        # UsageError: --overwrite
        with console.progress("searching") as progress:             # progress(done, total, note="")
            result = exhaustive(table, progress=progress)
        result.save(target)
        folder.record(seed=0)                                       # adds command line, versions, time
        console.table(["configuration", "accuracy"], result.rows)   # people, stdout
        console.say("next: adap train-policy")                      # talk, stderr
        console.result({"front": result.rows})                      # --json, stdout

Options that several commands share are types in `options.py`; whole numbers take `parser=whole(low, high)`.
Errors: raise AdapError and its subclasses anywhere; `adapcli.main` turns them into one line, a hint and an
exit code. A command with a `--resume` option gets it named when it is interrupted, so `--resume` with nothing
to resume must simply start.
"""
