"""The page about retries: its program in plain Python continues, and its callbacks send what the page says."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest
from airflow.providers.smtp.hooks.smtp import SmtpHook

from airflow_provider_rayagent.exceptions import RayAgentRunFailedError
from airflow_provider_rayagent.failures.failure_kinds import FailureKind
from airflow_provider_rayagent.text.codes import Code
from tests.docs.conftest import PAGES, ROOT, code_blocks, run_block
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = ROOT / "example_dags" / "jobs" / "resume" / "sum_numbers.py"
KEY = "nightly-sum-5f0c8e9b7a6d4c21"
TASK = SimpleNamespace(
    dag_id="nightly", task_id="train", log_url="https://airflow.example.com/dags/nightly?try_number=1"
)
SLACK = "airflow.providers.slack.hooks.slack_webhook"
SMTP = "airflow.providers.smtp.hooks.smtp"


def sum_numbers(storage: Path, numbers: int, output: int) -> subprocess.Popen[str]:
    command = [sys.executable, PROGRAM, "--storage", storage, "--numbers", numbers, "--seconds", "0.01"]
    env = {**os.environ, "RAYAGENT_RESUME_KEY": KEY}
    return subprocess.Popen(list(map(str, command)), env=env, stdout=output, text=True)


def test_the_program_in_plain_python_continues_after_a_kill(tmp_path: Path) -> None:
    def saved() -> int:
        number: int = json.loads(state.read_text(encoding="utf-8"))["number"] if state.exists() else 0
        return number

    state = tmp_path / f"{KEY}.json"
    with sum_numbers(tmp_path, 1_000_000, subprocess.DEVNULL) as first:
        wait_until(lambda: saved() >= 3 or None, "the program saves no number")
        first.kill()
    done = saved()
    last = done + 5

    with sum_numbers(tmp_path, last, subprocess.PIPE) as second:
        printed, _ = second.communicate()
    assert second.returncode == 0
    left = [f"number {number} of {last}" for number in range(done + 1, last + 1)]
    assert printed.splitlines() == [*left, f"sum: {last * (last + 1) // 2}"]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the snippet about notifications defines."""
    text = (PAGES / "retries-and-errors.md").read_text(encoding="utf-8")
    (code,) = (code for code in code_blocks(text, "python") if "on_failure_callback" in code)
    return run_block(code, "retries-and-errors.md", monkeypatch)


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> dict[str, MagicMock]:
    """The hooks of the other providers."""
    made = {"SlackWebhookHook": MagicMock(), "SmtpHook": MagicMock()}
    for module, name in ((SLACK, "SlackWebhookHook"), (SMTP, "SmtpHook")):
        replacement = ModuleType(module)
        setattr(replacement, name, made[name])
        for length in range(3, module.count(".") + 1):
            package = ".".join(module.split(".")[:length])
            monkeypatch.setitem(sys.modules, package, ModuleType(package))
        monkeypatch.setitem(sys.modules, module, replacement)
    return made


def failure() -> RayAgentRunFailedError:
    error = RayAgentRunFailedError("Platform failure.", code=Code.PROCESS_LOST)
    error.failure_kind = FailureKind.NODE_DIED
    error.causes = [{"sentence": "1 task load failed: <!channel>"}]
    return error


def test_the_callback_sends_the_failure_to_slack(names: dict[str, Any], hooks: dict[str, MagicMock]) -> None:
    names["notify_slack"]({"exception": failure(), "task_instance": TASK})
    hooks["SlackWebhookHook"].assert_called_once_with(slack_webhook_conn_id="slack_default")
    hooks["SlackWebhookHook"]().send_text.assert_called_once_with(
        f"nightly.train failed: RA-103, node_died\n1 task load failed: &lt;!channel&gt;\n{TASK.log_url}"
    )


def test_the_callback_sends_the_failure_by_mail(names: dict[str, Any], hooks: dict[str, MagicMock]) -> None:
    names["notify_by_mail"]({"exception": failure(), "task_instance": TASK})
    send = hooks["SmtpHook"]().__enter__().send_email_smtp
    (sent,) = (call.kwargs for call in send.call_args_list)
    assert inspect.signature(SmtpHook.send_email_smtp).bind("self", **sent)
    assert sent["to"] == "team@example.com"
    assert "RA-103, node_died\n1 task load failed: &lt;!channel&gt;" in sent["html_content"]


def test_the_callback_works_without_an_exception(names: dict[str, Any], hooks: dict[str, MagicMock]) -> None:
    names["notify_slack"]({"task_instance": TASK})
    hooks["SlackWebhookHook"]().send_text.assert_called_once_with(
        f"nightly.train failed: no code, unknown cause\n{TASK.log_url}"
    )
