"""How many threads each engine takes by itself."""

from importlib.util import find_spec

from tql.engine.scan import Settings


def threads() -> dict[str, int]:
    """Engine → threads, of those that are installed and say."""
    found = {"tqlkit": Settings().workers}
    if find_spec("polars"):
        import polars

        found["Polars"] = polars.thread_pool_size()
    if find_spec("duckdb"):
        import duckdb

        (row,) = duckdb.connect().sql("select current_setting('threads')").fetchall()
        found["DuckDB"] = int(row[0])
    if find_spec("pyarrow"):
        import pyarrow

        found["pyarrow"] = pyarrow.cpu_count()
    if find_spec("torch"):
        import torch

        found["torch"] = torch.get_num_threads()
    return found
