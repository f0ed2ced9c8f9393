"""The suite's options, hooks and fixtures."""

pytest_plugins = ["pgload.bench.plugin"]
