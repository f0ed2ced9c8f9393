"""The files of a run: progress, statistics, results, log and rejects."""
