"""How `make docs` builds the pages of this folder into a site."""

project = "bitstore"
html_title = "bitstore"
html_theme = "furo"
extensions = ["myst_parser"]
myst_heading_anchors = 3
