"""Chunks of rows."""

from certimetric.base.chunks import chunk_slices


def test_chunks_cover_all_rows_once():
    for n, memory, jobs in ((0, 10, 1), (1, 1, 4), (100, 64, 2), (7, 10**9, 3)):
        rows = [i for part in chunk_slices(n, 8, memory, jobs) for i in range(part.start, part.stop)]
        assert rows == list(range(n))
