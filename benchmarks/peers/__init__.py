"""The same tasks for ours and for other engines, in one run: `python -m benchmarks.peers`."""
