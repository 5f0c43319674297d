"""Medians, best peers and ratios; and what the table, the Markdown and the plot make of them."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree

import pytest
from rich.console import Console

from benchmarks.peers import PEERS
from benchmarks.plot import plot
from benchmarks.report import markdown, print_table
from benchmarks.results import Detail, Figure, Line, as_json, cell, notes, number, verdict
from benchmarks.rows import QUICK, ROWS

RIVALS = ["harbor", "haproxy", "nginx"]
FACTS = {
    "date": "2026-01-31",
    "commit": "abc1234",
    "rounds": 3,
    "seconds": 3.0,
    "versions": {peer.name: "1.2" for peer in PEERS},
    "machine": {"processor": "a processor", "cores": 2, "memory_gib": 4, "kernel": "Linux 6", "python": "3.12.1"},
}


def line_of(target: float | None = None, **rounds: list[float]) -> Line:
    details = (Detail("rate", "{:,.0f}/s"), Detail("lost", "{:.0f} lost", only_if_not_zero=True))
    line = Line(Figure("ping", "Ping & pong", "µs", "cpu_us", details, target))
    for peer, values in rounds.items():
        for value in values:
            line.add(peer, {"cpu_us": value, "rate": 100_000.0, "lost": 0.0})
    return line


def test_a_figure_is_the_median_of_its_rounds() -> None:
    assert line_of(nginx=[12, 10, 99]).value("nginx") == 12


def test_a_peer_that_was_not_measured_has_no_figure() -> None:
    assert line_of(nginx=[12]).value("haproxy") is None


def test_the_best_peer_is_the_one_with_the_lowest_figure_and_never_harbor() -> None:
    line = line_of(harbor=[1], haproxy=[12], nginx=[10])
    assert line.best_peer(RIVALS) == "nginx"


def test_a_baseline_is_not_measured_against() -> None:
    assert line_of(harbor=[5], nginx=[10], streams=[1]).best_peer(RIVALS) == "nginx"


def test_the_ratio_is_to_the_best_peer() -> None:
    line = line_of(harbor=[8], haproxy=[12], nginx=[10])
    assert line.ratio("harbor", RIVALS) == pytest.approx(0.8)
    assert line.ratio("haproxy", RIVALS) == pytest.approx(1.2)


@pytest.mark.parametrize(
    "line", [line_of(harbor=[8]), line_of(nginx=[8]), line_of(harbor=[8], nginx=[0])], ids=["alone", "absent", "zero"]
)
def test_without_two_figures_there_is_no_ratio(line: Line) -> None:
    assert line.ratio("harbor", RIVALS) is None
    assert verdict(line, RIVALS) == "–"


def test_the_verdict_says_whether_the_target_is_met() -> None:
    assert verdict(line_of(1.05, harbor=[8], nginx=[10]), RIVALS) == "0.80 of nginx, ≤ 1.05"
    assert verdict(line_of(1.05, harbor=[20], nginx=[10]), RIVALS) == "2.00 of nginx, > 1.05"
    assert verdict(line_of(harbor=[20], nginx=[10]), RIVALS) == "2.00 of nginx"


def test_a_cell_shows_the_figure_and_the_details_worth_a_word() -> None:
    line = line_of(nginx=[10])
    assert cell(line, "nginx") == "10.0 · 100,000/s"
    line.add("nginx", {"cpu_us": 10, "rate": 1e5, "lost": 4.0})
    assert cell(line, "nginx") == "10.0 · 100,000/s · 2 lost"


def test_a_failure_is_told_from_a_row_without_a_place() -> None:
    line = line_of(nginx=[10])
    line.fail("haproxy", "it ended")
    line.fail("haproxy", "and again")
    assert cell(line, "haproxy") == "failed"
    assert cell(line, "envoy") == "–"
    assert notes([line], {"traefik": "not installed"}) == [
        "traefik is missing: not installed",
        "ping, haproxy: it ended",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.05, "0.05"), (9.994, "9.99"), (10.04, "10.0"), (99.94, "99.9"), (1234.5, "1,234"), (0, "0.00")],
)
def test_numbers_have_the_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_the_json_keeps_every_round() -> None:
    kept = as_json([line_of(1.0, harbor=[8, 9, 7], nginx=[10])], RIVALS)["ping"]
    assert [one["cpu_us"] for one in kept["peers"]["harbor"]["rounds"]] == [8, 9, 7]
    assert (kept["best_peer"], kept["ratio"], kept["target"]) == ("nginx", 0.8, 1.0)


def test_the_markdown_is_one_table_with_versions_machine_and_who_is_missing() -> None:
    peers = [peer for peer in PEERS if peer.name in RIVALS]
    text = markdown([line_of(harbor=[8], nginx=[10])], peers, {"envoy": "no wheel"}, FACTS)
    head, rule, row, *_ = text.splitlines()
    assert head == "| row | unit | Harbor 1.2 | HAProxy 1.2 | nginx 1.2 | Harbor / best peer |"
    assert head.count("|") == rule.count("|") == row.count("|")
    assert "8.00" in row
    assert "a processor, 2 cores, 4 GiB, Linux 6, Python 3.12.1; medians, 3 rounds of 3 s each" in text
    assert "- envoy is missing: no wheel" in text


def test_the_table_names_every_row_and_what_is_missing() -> None:
    output = io.StringIO()
    console = Console(file=output, width=200)
    print_table(console, [line_of(harbor=[8], nginx=[10])], PEERS, {"envoy": "no wheel"})
    assert "Ping & pong" in output.getvalue()
    assert "envoy is missing: no wheel" in output.getvalue()


def test_the_plot_is_an_svg_of_its_own() -> None:
    lines = [line_of(harbor=[8], nginx=[10], haproxy=[90]), line_of(nginx=[1])]
    text = plot(lines, {"harbor": "Harbor", "haproxy": "HAProxy", "nginx": "nginx"})
    root = ElementTree.fromstring(text)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("Ping & pong, µs") == 1, "a row without a ratio has no place in it"
    assert "0.80" in texts
    assert "3 or more" in texts
    assert "prefers-color-scheme: dark" in text
    assert "href" not in text


def test_the_plot_keeps_what_is_far_off_at_its_edge() -> None:
    near = plot([line_of(harbor=[30], nginx=[10])], {"harbor": "Harbor", "nginx": "nginx"})
    far = plot([line_of(harbor=[900], nginx=[10])], {"harbor": "Harbor", "nginx": "nginx"})
    assert near.replace("3.00", "90.0") == far


def test_every_row_and_figure_has_a_name_of_its_own() -> None:
    rows, figures = [row.name for row in ROWS], [figure.name for row in ROWS for figure in row.figures]
    assert len(set(rows)) == len(rows)
    assert len(set(figures)) == len(figures)
    assert set(QUICK) <= set(rows)


def test_who_cannot_do_a_row_says_why() -> None:
    haproxy, pproxy = (next(peer for peer in PEERS if peer.name == name) for name in ("haproxy", "pproxy"))
    udp, opening = (next(row for row in ROWS if row.name == name) for name in ("udp-64", "open-port-1"))
    assert udp.why_not(haproxy) == "does not forward UDP"
    assert opening.why_not(pproxy) == "cannot open ports while it runs"
    assert opening.why_not(haproxy) is None


def test_who_ends_no_tls_or_nothing_else_has_no_place_there() -> None:
    caddy, envoy, nginx = (next(peer for peer in PEERS if peer.name == name) for name in ("caddy", "envoy", "nginx"))
    plain, tls, web = (next(row for row in ROWS if row.name == name) for name in ("idle", "tls-idle", "https-idle"))
    assert plain.why_not(caddy) == tls.why_not(caddy).replace("is not set up to end TLS", "forwards HTTP only")
    assert tls.why_not(envoy) == "is not set up to end TLS"
    assert [row.why_not(nginx) for row in (plain, tls, web)] == [None, None, None]
    assert web.why_not(caddy) is None
