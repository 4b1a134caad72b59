"""A small agent in front of a Ray on this machine, for testing (extra ``local``).

It has the requests that the hooks send to an agent.
"""

from __future__ import annotations
