"""Sphinx: `make docs` builds docs/_build/html; every warning is an error."""

from harbor import __version__

project = "Harbor"
author = "The Harbor authors"
copyright = "2026, The Harbor authors"
release = version = __version__

extensions = ["myst_parser", "sphinx_click"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
nitpicky = True

html_theme = "furo"
html_title = f"Harbor {version}"

man_pages = [("reference/cli", "harbor", "lease TCP and UDP ports and forward their traffic", [author], 1)]
