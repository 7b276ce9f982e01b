"""The site: ``sphinx-build -W -b html docs site``. It needs the extra ``docs`` and no network."""

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "cliff"
author = "The cliff developers"
copyright = "2026, the cliff developers"
release = metadata.version("cliff-icl")

extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc", "sphinx_copybutton", "_site"]
exclude_patterns = ["_*"]
nitpicky = True
smartquotes = False  # would make a dash of the two hyphens of an option

html_theme = "furo"
html_title = f"cliff {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"
pygments_style = "tango"

myst_enable_extensions = ["deflist", "dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 3

# Notebooks run whenever the site is built: a cell that raises breaks the build, and the numbers in
# the text, {eval}`…`, are those of that run.
nb_execution_mode = "inline"
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_timeout = 1200  # a cell that takes seconds may wait long on a busy machine
nb_eval_name_regex = r".+"
nb_merge_streams = True

# Types stand in the docstrings, in words, with shapes and units: numpydoc prints them as they are,
# where napoleon would look up each of their words.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
default_role = "py:obj"
