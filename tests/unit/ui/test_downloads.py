"""The log of a job as a file: all of it, or why it is not whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

import pytest
from fastapi import HTTPException

from airflow_provider_rayagent.services.validation import validate_job_id
from airflow_provider_rayagent.ui import downloads
from airflow_provider_rayagent.ui.downloads import MAX_DOWNLOADS_PER_USER, LogFile, text_of
from airflow_provider_rayagent.ui.user_connections import PageHook
from tests.scripted import Do, FullText, Job, Play, Refuse, Reset, ScriptedAgent, Silence
from tests.unit.support import TOKEN

if TYPE_CHECKING:
    from tests.unit.support import Connect

REFUSED = Refuse(500, "the disk is gone")


def download(connect: Connect, job: Job) -> str:
    async def read() -> str:
        return "".join([text async for text in text_of(PageHook(connection), validate_job_id(job.job_id))])

    with ScriptedAgent(job, token=TOKEN) as agent:
        connection = connect(agent)
        return asyncio.run(read())


def test_a_download_has_the_last_line_of_a_running_job_even_if_it_is_unfinished(connect: Connect) -> None:
    assert download(connect, Job("a\nb\nhalf of", "RUNNING")) == "a\nb\nhalf of\n"
    assert download(connect, Job("a\nb\nall of", "SUCCEEDED")) == "a\nb\nall of\n"


def test_a_download_says_why_the_log_of_a_running_job_cannot_be_read(connect: Connect) -> None:
    [line] = download(connect, Job("a\n", "RUNNING", full=[REFUSED])).splitlines()
    assert line.startswith("[The end of the log cannot be read. ")
    assert line.endswith("the disk is gone]")


def test_a_download_says_why_the_log_of_an_ended_job_is_not_whole(connect: Connect) -> None:
    job = Job("a\nb\n", full=[REFUSED], ws=[Refuse(503)], sse=[Refuse(503)])
    lost, reason = download(connect, job).splitlines()
    assert lost == "[RA-302: Could not read the end of the job's log; lines may be missing here.]"
    assert reason.startswith("[The end of the log cannot be read. ")
    assert reason.endswith("the disk is gone]")


def test_a_download_says_where_the_log_was_rewritten(connect: Connect) -> None:
    job = Job("old\n")
    job.full = [Play(FullText(), Do(lambda: job.rewrite("new\nand longer\n")), Reset()), FullText()]
    old, notice, *new = download(connect, job).splitlines()
    assert (old, new) == ("old", ["new", "and longer"])
    assert notice.startswith("[RA-303: The job's log was rotated or rewritten; forwarding it again from the start. ")


def test_a_download_of_which_nothing_arrives_ends(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "MAX_SILENT_SECONDS", 0.1)
    assert download(connect, Job("a\n", "RUNNING", full=[Silence()])) == "[No more of the log was received in time.]\n"


@pytest.mark.parametrize("status", ["RUNNING", "SUCCEEDED"])
def test_a_download_has_every_state_of_a_progress_bar(status: str, connect: Connect) -> None:
    bar = [f"{number:3}%|{'#' * (number // 10):10}| {number}/100 [00:{number:02}<00:00]" for number in range(1, 101)]
    assert download(connect, Job("\n".join([*bar, ""]), status)).splitlines() == bar
    redrawn = download(connect, Job("\r".join(["", *bar]) + "\nend\n", status))
    assert [state for state in bar if state not in redrawn] == []
    assert redrawn.endswith("end\n")


def log_file() -> LogFile:
    return LogFile(PageHook("none"), validate_job_id("j1"), "ada")


async def blocks(*_: object) -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError


async def fails(*_: object) -> NoReturn:
    raise RuntimeError("the client has gone")


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
async def test_a_download_that_is_not_read_ends(spec_version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "STALLED_SECONDS", 0.1)
    await log_file()({"type": "http", "asgi": {"spec_version": spec_version}}, blocks, blocks)
    assert not downloads._downloads


async def test_a_user_has_a_number_of_downloads_at_a_time() -> None:
    scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
    running = [asyncio.create_task(log_file()(scope, blocks, blocks)) for _ in range(MAX_DOWNLOADS_PER_USER)]
    await asyncio.sleep(0)
    with pytest.raises(HTTPException, match="wait for the end of one"):
        log_file()
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    assert not downloads._downloads
    with pytest.raises(RuntimeError, match="has gone"):
        await log_file()(scope, fails, fails)
    assert not downloads._downloads
