"""The documentation site (`make site`): the pages that people read in the repository, in the order of contents.rst."""

project = "klinenode"
html_title = "klinenode"
html_theme = "furo"
html_extra_path = ["index.html"]
html_copy_source = False
html_show_copyright = False
html_use_index = False

extensions = ["myst_parser"]
myst_heading_anchors = 4
"""Headings get the anchors that they have on GitHub: a link works in both places."""

root_doc = "docs/site/contents"
include_patterns = ["README.md", "README.zh-CN.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/**"]
