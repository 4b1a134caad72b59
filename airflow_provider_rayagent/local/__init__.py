"""A small agent in front of a Ray on this machine, with the API of a real agent, for testing (extra ``local``)."""

from __future__ import annotations
