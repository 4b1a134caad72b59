"""Run the function. Its module is ``__main__``, so that Ray sends functions and classes defined in it by value."""

from __future__ import annotations

import sys

from .runner import run  # noqa: TID252 - on the cluster, this package has another name

sys.exit(run(globals()))
