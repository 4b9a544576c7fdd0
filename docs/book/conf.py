"""Settings of the site. `build.py` writes its pages; see there."""

from tinynet import __version__
from tinynet.tools.examples import TOPICS

project = "tinynet"
author = "the tinynet developers"
copyright = "the tinynet developers, MIT license"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx_design", "docstrings"]
extensions += ["sphinx_gallery.gen_gallery", "gallery"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["intro"]  # parts of the scripts' pages
suppress_warnings = ["misc.highlighting_failure"]  # blocks that show output of programs are no language
highlight_language = "text"  # an indented block is a drawing or pseudo-code

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

mathjax_path = "mathjax/tex-svg.js"  # a copy in this folder: the site works without a network
mathjax3_config = {"options": {"enableMenu": False}}  # with a menu, every formula is a stop of the Tab key

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = "tinynet"
html_static_path = ["_static"]
html_css_files = ["tinynet.css"]
html_js_files = ["tinynet.js"]
pygments_style = "a11y-high-contrast-light"  # the contrast of its colors is 7 or more, as that of the dark one
pygments_dark_style = "a11y-dark"
html_extra_path = ["pages"]  # the pages to touch, as they are
html_copy_source = False
html_show_search_summary = False  # a search would read the pages found, which a browser refuses for a site in a folder
html_theme_options = {"navigation_with_keys": True}

sphinx_gallery_conf = {
    "examples_dirs": ["../gallery", "../start"],  # the copies of the scripts; the first hour
    "gallery_dirs": ["scripts", "start"],
    "filename_pattern": "",  # every script is run
    "subsection_order": [f"../gallery/{topic}" for topic in TOPICS],
    "within_subsection_order": "FileNameSortKey",
    "parallel": True,
    "reset_argv": "gallery.command_line",
    "reset_modules": (),
    "image_scrapers": ("gallery.pictures", "matplotlib"),
    "remove_config_comments": True,
    "show_signature": False,
    "write_computation_times": False,
}
