from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harbor.runner.words import expanded, split

VALUES = {"PORT": "4100", "STACKATO_HARBOR": "4100", "STACKATO_HARBOR_WEB": "4100", "HARBOR_INSTANCE": "site.1"}


@pytest.mark.parametrize(
    ("word", "becomes"),
    [
        ("$PORT", "4100"),
        ("${PORT}", "4100"),
        ("--port=$PORT", "--port=4100"),
        ("127.0.0.1:$PORT", "127.0.0.1:4100"),
        ("$STACKATO_HARBOR", "4100"),
        ("$STACKATO_HARBOR_WEB", "4100"),
        ("$PORT:$PORT", "4100:4100"),
        ("log-$HARBOR_INSTANCE", "log-site.1"),
        ("exec ./app --port $PORT >app.log", "exec ./app --port 4100 >app.log"),
        # Everything else is the program's, or its shell's.
        ("$HOME", "$HOME"),
        ("$$", "$$"),
        ("$$PORT", "$$PORT"),
        (r"\$PORT", r"\$PORT"),
        ("$PORTAL", "$PORTAL"),
        ("${PORT:-80}", "${PORT:-80}"),
        ("$(PORT)", "$(PORT)"),
        ("$1", "$1"),
        ("$port", "$port"),
        ("PORT", "PORT"),
        ("", ""),
    ],
)
def test_only_the_instance_s_own_variables_are_replaced(word: str, becomes: str) -> None:
    assert expanded([word], VALUES) == [becomes]


@given(st.lists(st.text()), st.text())
def test_no_word_becomes_two_and_no_value_is_looked_at_again(words: list[str], value: str) -> None:
    assert len(expanded(words, {"PORT": value})) == len(words)
    assert expanded(["<$PORT>"], {"PORT": f"{value} $PORT"}) == [f"<{value} $PORT>"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("node app.js", ("node", "app.js")),
        ("python -m http.server '$PORT'", ("python", "-m", "http.server", "$PORT")),
        ("sh -c 'a && b | c > d; e &'", ("sh", "-c", "a && b | c > d; e &")),
        ('say "it\'s; fine" a\\;b', ("say", "it's; fine", "a;b")),
        ("a #b", ("a", "#b")),
        ("", ()),
    ],
)
def test_a_line_becomes_words_as_in_a_shell(line: str, words: tuple[str, ...]) -> None:
    assert split(line) == words


@pytest.mark.parametrize("line", ["a && b", "a; b", "a | b", "a > b", "a & ", "(a)", "a $(b)", "a 'b' && c"])
def test_what_only_a_shell_can_do_is_refused_with_advice(line: str) -> None:
    with pytest.raises(ValueError, match=r"none is involved; write: sh -c"):
        split(line)


@pytest.mark.parametrize("line", ["a 'b", 'a "b', "a \\"])
def test_a_line_that_does_not_end_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="never closed"):
        split(line)


@given(st.text())
def test_any_line_becomes_words_or_is_refused(line: str) -> None:
    try:
        words = split(line)
    except ValueError:
        return
    assert len(words) <= len(line)
