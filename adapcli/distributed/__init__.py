"""Several processes on one job, started by torchrun: who they are, and what they tell one another.

`launch` reads the environment and knows no torch. `group` exchanges numbers through torch's own engine; the
group of a process that is alone returns everything as it is, so that what uses it has one path.
"""
