"""Jinja templates of HTML pages, in which whatever a run, a file or a stranger says is text and never markup."""

import jinja2

from jft.utils.text import html


def environment(package: str, folder: str, *, percent: str) -> jinja2.Environment:
    """The templates of a folder of a package; a name that a template uses and nobody gives is an error.

    Args:
      package: such as 'jft.evaluation'.
      folder: within the package.
      percent: what the filter `percent` writes behind a share of 0 .. 1 times 100; it writes '-' for None.
    """
    found = jinja2.Environment(
        loader=jinja2.PackageLoader(package, folder),
        autoescape=True,
        finalize=html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["percent"] = lambda value, digits=1: "-" if value is None else f"{100 * value:.{digits}f}{percent}"
    return found
