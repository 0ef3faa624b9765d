"""How Sphinx builds the documentation: `make site`."""

from importlib import metadata

project = "reproduce"
release = version = metadata.version("reproduce")
copyright = "the authors of this harness"  # noqa: A001
html_title = "Do wider networks help adversarial robustness?"

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "generate.py"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["tables.css"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# pages link to files of the repository, which are no pages of the site
suppress_warnings = ["myst.xref_missing"]

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
# the notebook reads the demo's results from the root of the repository
nb_execution_in_temp = False

numpydoc_show_class_members = False
autodoc_typehints = "none"
