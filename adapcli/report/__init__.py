"""The report of a run: one page, its figures and tables. It draws what other rooms computed."""
