"""A small agent on this machine over a real Ray: the agent's wire, for trying and testing (extra ``local``)."""

from __future__ import annotations
