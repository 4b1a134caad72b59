"""Sanitize untrusted text: what can be displayed is unchanged, and control sequences have no effect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_rayagent.text.bounds import utf8_length
from airflow_provider_rayagent.text.sanitization import sanitize


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain", "plain"),
        ("", ""),
        ("  indented\t\ttabs ", "  indented\t\ttabs "),
        ("é漢😀👩\u200d🚀 مرحبا", "é漢😀👩\u200d🚀 مرحبا"),
        ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
        ("\x1b[38:5:9mred\x1b[m", "\x1b[38:5:9mred\x1b[m"),
        ("windows\r", "windows"),
        ("a\rb", "a\\x0db"),
        ("bell\x07 nul\x00 back\x08", "bell\\x07 nul\\x00 back\\x08"),
        ("\x1b[2J\x1b[1;1Hgone", "\\x1b[2J\\x1b[1;1Hgone"),
        ("up\x1b[A", "up\\x1b[A"),
        ("\x1b[01;31m\x1b[Kgrep\x1b[m\x1b[K", "\x1b[01;31mgrep\x1b[m"),
        ("\x1b]8;id=1;file:///x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("c1\x9b31m nel\x85", "c1\\x9b31m nel\\x85"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("one\u2028line", "one\\u2028line"),
        ("half \ud83d", "half \\ud83d"),
        ("::group::x ::endgroup::", "::\u200bgroup::x ::\u200bendgroup::"),
        ("::gr\x1b[Koup::x", "::\u200bgroup::x"),
    ],
)
def test_displayable_text_is_kept_and_control_sequences_are_escaped(line: str, shown: str) -> None:
    assert sanitize(line, colors=True) == shown


@pytest.mark.parametrize(
    ("text", "lines", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m \x1b[2Jx", False, "red \\x1b[2Jx"),
        ("::gr\x1b[1moup::x", False, "::\u200bgroup::x"),
        *((text, False, text) for text in ("group::", "::Group::", "::group:", "plain", "")),
        ("a\r\n\x1b[2Jb\n", True, "a\n\\x1b[2Jb\n"),
        ("a\r\n\x1b[2Jb\n", False, "a\\x0d\\x0a\\x1b[2Jb\\x0a"),
    ],
)
def test_colors_are_dropped_and_line_breaks_escaped_where_they_are_not_wanted(
    text: str, lines: bool, shown: str
) -> None:
    assert sanitize(text, lines=lines) == shown


@given(st.text(st.characters() | st.sampled_from("\x1b[];m8\x07\\::group::"), max_size=60), st.booleans())
def test_nothing_but_colors_is_left_to_obey(line: str, colors: bool) -> None:
    shown = sanitize(line, colors=colors)
    assert "::group::" not in shown
    assert "::endgroup::" not in shown
    shown.encode()
    rest = shown.split("\x1b")
    assert len(rest) == 1 or colors
    assert all(piece.startswith("[") and "m" in piece for piece in rest[1:])
    assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for piece in rest for char in piece if char != "\t")


def test_secrets_are_taken_out_before_the_text_is_cut() -> None:
    def redact(text: str) -> str:
        return text.replace("s3cret", "***")

    assert sanitize("12345 s3cret 7", redact, length=9) == "12345 ***… [2 characters truncated]"


@given(st.text(st.characters() | st.sampled_from("\x1b[];m8\x07\\::group::\n"), max_size=60), st.booleans())
def test_applied_twice_it_does_no_more_than_once(text: str, lines: bool) -> None:
    once = sanitize(text, lines=lines)
    assert sanitize(once, lines=lines) == once


@pytest.mark.parametrize("unit", ["\x1b[", "\x1b[1;", "\x1b]8;", "::group::", "\x07"])
def test_a_hostile_line_grows_in_proportion(unit: str) -> None:
    assert len(sanitize(unit * 4_000, colors=True)) == 4_000 * len(sanitize(unit, colors=True))


@pytest.mark.parametrize(("text", "length"), [("", 0), ("plain", 5), ("é漢😀", 9), ("a\ud800", 2)])
def test_the_utf8_length_of_any_text(text: str, length: int) -> None:
    assert utf8_length(text) == length
