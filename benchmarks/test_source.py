"""Reading alone, without a database: an upper limit for every load."""

from pgload.source.reader import read_records


def test_read(run_client, dataset):
    """Splitting the files into raw records, on one core."""

    def read():
        done = 0
        for path, wanted in dataset.files.items():
            left = len(wanted)  # a dataset may end within a file
            windows = read_records(path)
            while left > 0:
                left -= len(next(windows))
            done += len(wanted)
        return done

    run_client(read)
