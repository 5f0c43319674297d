"""An environment as text is read back as it was, by those who read such text, or it is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harbor.cli.group import Failed
from harbor.cli.variables import FORMATS, LONGEST_LINE, formatted

DUMP = "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('X_')}))"
HOSTILE = {
    "X_SPACE": "  a  b\t",
    "X_EMPTY": "",
    "X_QUOTES": """it's "so" '' "" `so`""",
    "X_DOLLAR": "$HOME ${HOME} $(touch /tmp/owned) `touch /tmp/owned` $$ $1 $'a'",
    "X_BACKSLASH": r"\ \n \\ \' \" \$ c:\new",
    "X_LINES": "one\ntwo\r\nthree\n\n",
    "X_GLOB": "* ? [a-z] ~ ~root {a,b} !! !x ^x",
    "X_OPERATORS": "; & && || | > /tmp/owned < x ( ) # x",
    "X_OPTION": "-n -e --",
    "X_CONTROL": "\x01\x07\x1b[31m\x7f",
    "X_UNICODE": "ünï \u202e 日本 🚢 \u2028",
    "X_EQUALS": "=a=b",
    "X_JSON": json.dumps({"a": "b's", "c": ["d", 1, None]}),
}
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
nasty = st.text(alphabet="ab '\"\\$`{}()\n\r\t#=!;&|*~", max_size=12)


def read_by(shell: str, text: str, tmp_path: Path) -> dict[str, str]:
    """What a program finds in its environment that this shell starts after it evaluated the text."""
    program = tmp_path / "dump.py"
    program.write_text(DUMP)
    script = f'eval "$(cat)"; exec {sys.executable} {program}'
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [shell, "-eu", "-c", script], input=text.encode(), capture_output=True, env=environment, check=False
    )
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
    return dict(json.loads(done.stdout))


def written(variables: dict[str, str], form: str) -> str | None:
    """The text, or None where the format refuses it."""
    try:
        return formatted(variables, form)
    except Failed:
        return None


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_F07_a_shell_reads_back_every_value_and_carries_nothing_out(shell: str, tmp_path: Path) -> None:
    assert read_by(shell, formatted(HOSTILE, "shell"), tmp_path) == HOSTILE


def test_F07_a_shell_reads_back_whatever_can_be_in_an_environment(tmp_path: Path) -> None:
    @settings(max_examples=25, deadline=None)
    @given(st.lists(texts | nasty, min_size=20, max_size=20))
    def check(values: list[str]) -> None:
        variables = {f"X_{number}": value for number, value in enumerate(values)}
        assert read_by("sh", formatted(variables, "shell"), tmp_path) == variables

    check()


def test_F07_a_dotenv_file_is_read_back_where_it_is_not_refused(tmp_path: Path) -> None:
    """What it writes is also good for a shell, which is as strict a reader as there is."""
    refused = set()
    for name, value in HOSTILE.items():
        text = written({name: value}, "dotenv")
        if text is None:
            refused.add(name)
        else:
            assert read_by("sh", f"set -a; {text}", tmp_path) == {name: value}
    assert refused == {"X_QUOTES", "X_DOLLAR", "X_BACKSLASH", "X_LINES", "X_JSON"}


@given(texts | nasty)
def test_a_dotenv_value_is_one_that_all_readers_understand_alike(value: str) -> None:
    text = written({"X": value}, "dotenv")
    if text is None:
        return
    text = text.removesuffix("\n")
    quote, inside = text[2], text[3:-1]
    assert text == f"X={quote}{value}{quote}"
    assert quote in "'\""
    assert quote not in inside
    assert "\\" not in inside
    assert "${" not in inside
    assert "\r" not in inside


def test_an_apostrophe_is_no_trouble_for_a_dotenv_file() -> None:
    assert formatted({"X": "it's"}, "dotenv") == 'X="it\'s"\n'
    assert formatted({"X": '{"a": 1}'}, "dotenv") == "X='{\"a\": 1}'\n"


@given(texts | nasty)
def test_a_docker_env_file_holds_the_value_as_it_is_on_one_line(value: str) -> None:
    """docker/cli opts/file.go: NAME=value, everything behind the first = up to the end of the line, no quotes."""
    text = written({"X": value}, "docker")
    assert (text is None) == bool(set("\r\n") & set(value))
    assert text in (None, f"X={value}\n")


@pytest.mark.parametrize(
    ("form", "value", "complaint"),
    [("docker", "a\nb", "X has a line end"), ("docker", "a\r", "X has a line end"), ("dotenv", "'\"", "X has quotes")],
)
def test_a_refusal_names_the_variable_and_a_format_that_would_work(form: str, value: str, complaint: str) -> None:
    with pytest.raises(Failed, match=f"{complaint}.*--format json"):
        formatted({"X": value}, form)


def test_a_line_that_docker_would_not_read_is_refused() -> None:
    fits = "é" * ((LONGEST_LINE - 2) // 2)
    assert formatted({"X": fits}, "docker") == f"X={fits}\n"
    with pytest.raises(Failed, match="longer than"):
        formatted({"X": fits + "éé"}, "docker")


@given(st.dictionaries(st.from_regex(r"X_[A-Z0-9_]{1,5}", fullmatch=True), texts | nasty))
def test_json_holds_everything(variables: dict[str, str]) -> None:
    assert json.loads(formatted(variables, "json")) == variables


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["", "1X", "X Y", "X=Y", "X;touch /tmp/owned", "X\n", "$(X)", "é", "X-Y"])
def test_K10_a_name_that_is_none_is_refused_in_every_format(form: str, name: str) -> None:
    with pytest.raises(Failed, match="no name of a variable"):
        formatted({name: "x"}, form)


@pytest.mark.parametrize("form", FORMATS)
def test_no_environment_holds_a_nul(form: str) -> None:
    with pytest.raises(Failed, match="NUL"):
        formatted({"X": "a\0b"}, form)
