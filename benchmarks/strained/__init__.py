"""The parts of `benchmarks.strain`: each one models one kind of trouble."""
