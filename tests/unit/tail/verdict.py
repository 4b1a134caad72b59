"""Check the outcome of a history against the guarantee."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_rayagent.tail.end import End

if TYPE_CHECKING:
    from tests.unit.tail.world import World

MOST_REQUESTS_IN_10_SECONDS = 60
"""With a poll interval of 0.3 s and all faults at the same time."""
MOST_REQUESTS_IN_10_SECONDS_BY_DEFAULT = 50


def complaint(world: World) -> str:
    """Return what is wrong with the outcome, or an empty string."""
    history = world.history
    truth = history.truth(history.text)
    said = [notice.text for notice in world.notices if "The agent reports" not in notice.text]
    busiest = 0 if world.restarts else world.busiest(10)
    if world.end is not End.JOB_ENDED or not world.tail.log_is_whole:
        return f"ended with {world.end}"
    if world.lines != truth and (history.is_decidable or not said):
        return f"forwarded {world.lines}, not {truth}, saying {said}"
    if history.is_decidable and any("cannot be read" not in text for text in said):
        return f"said {said}"
    if history.text_can_be_had and not world.restarts and world.now > history.duration + history.poll_interval + 2:
        return f"ended {world.now - history.duration:.1f} s after the job"
    if busiest > MOST_REQUESTS_IN_10_SECONDS:
        return f"{busiest} requests in 10 s"
    if busiest > MOST_REQUESTS_IN_10_SECONDS_BY_DEFAULT and history.poll_interval >= 5:
        return f"{busiest} requests in 10 s with a usual poll interval"
    return ""


def complaint_about_rewriting(world: World) -> str:
    """Return the same for a history with a rewritten log."""
    history = world.history
    old, new = map(history.truth, (history.text, history.rewritten))
    before = len(world.lines) - len(new)
    said = sum("rewritten" in notice.text for notice in world.notices)
    if before < 0 or world.lines[:before] != old[:before] or world.lines[before:] != new:
        return f"forwarded {world.lines}, not some of {old} and all of {new}"
    if said != (before > 0):
        return f"said {said} times that the log was rewritten, after {before} lines of the old one"
    return ""
