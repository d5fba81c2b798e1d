"""What MkDocs adds to the pages: tables made from the code, and files of the repository that pages link to.

Links are written as GitHub reads them (`../SECURITY.md`); here they become links to the site's own pages.
"""

import contextlib
import importlib
import io
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# File of the repository -> page of the site.
PROJECT = {
    "results/README.md": "project/results.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security-policy.md",
    "CHANGELOG.md": "project/changelog.md",
}
_LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?(\))")


def on_files(files: Any, *, config: Any) -> Any:
    """Adds the pages of `PROJECT`."""
    from mkdocs.structure.files import File

    for path, page in PROJECT.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fills in the tables and turns links to files of the repository into links between pages."""
    here = page.file.src_uri
    markdown = markdown.replace("<!-- config fields -->", config_fields() if "<!-- config" in markdown else "")
    markdown = markdown.replace("<!-- commands -->", commands() if "<!-- commands" in markdown else "")
    origins = {page: path for path, page in PROJECT.items()}
    folder = posixpath.dirname(origins.get(here, f"docs/{here}"))

    def link(found: re.Match) -> str:
        opening, target, anchor, closing = found.groups()
        path = posixpath.normpath(posixpath.join(folder, target))
        to = PROJECT.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if to is None:
            raise ValueError(f"{here} links to {target}, which is no page of the site: name the file without a link.")
        return f"{opening}{posixpath.relpath(to, posixpath.dirname(here) or '.')}{anchor or ''}{closing}"

    return _LINK.sub(link, markdown)


def config_fields() -> str:
    """A table of the config's fields for each of their groups, from `jft.utils.fields`."""
    from jft.utils.fields import GROUPS

    lines = []
    for group, fields in GROUPS.items():
        lines += ["", f"## {group[0].upper()}{group[1:]}", "", "| field | default | meaning |", "|---|---|---|"]
        lines += [f"| `{field.name}` | `{field.default!r}` | {_meaning(field)} |" for field in fields]
    return "\n".join(lines)


def _meaning(field: Any) -> str:
    choices = f" One of: {', '.join(repr(choice) for choice in field.choices)}." if field.choices else ""
    needs = f" Only with {' and '.join(map(str, field.needs))}." if field.needs else ""
    text = f"{field.doc[0].upper()}{field.doc[1:]}.{choices}{needs}"
    return re.sub(r"([|<*_\\])", r"\\\1", text)


def commands() -> str:
    """The help of each command."""
    from jft.cli.main import VERBS

    return "\n".join(f"\n## jft {verb}\n\n{told}.\n\n```text\n{_help(verb)}\n```\n" for verb, told in VERBS.items())


def _help(verb: str) -> str:
    from jft.cli.main import Parser

    command = importlib.import_module("jft.cli." + verb.replace("-", "_"))
    parser = Parser(prog=f"jft {verb}", description=command.__doc__)
    command.arguments(parser)
    with io.StringIO() as text, contextlib.redirect_stdout(text):
        parser.print_help()
        return text.getvalue().strip()
