"""The cases: one module for each claim about speed, with `run(bench)`, which measures it."""
