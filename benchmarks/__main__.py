"""`python -m benchmarks`: the same as `python -m benchmarks.peers`."""

from benchmarks.peers.__main__ import main

if __name__ == "__main__":
    main()
