"""Running the checks, for ``dev.py``: suites side by side, and once more what did not pass. Standard library only."""
