"""The pytest plugin behind `pytest benchmarks`."""
