"""The README and the pages of docs/: what they say first of their figures, their links, commands and programs."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from jft.cli.main import VERBS, parse
from jft.utils.fields import FIELDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RESULTS = (ROOT / "docs/results.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in PAGES}


def blocks(language):
    """(page, text) of each fenced block of a language; '' is a block without one."""
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.M | re.S)
    return [(page, found) for page, text in TEXTS.items() for found in fence.findall(text)]


def test_the_readme_is_short_and_has_the_two_commands():
    assert len(README.splitlines()) <= 150
    for command in ("pip install -e . && python scripts/train.py --config configs/quickstart.py",):
        assert f"\n{command}\n" in README
    assert '\npip install -e ".[test]" && pytest\n' in README


@pytest.mark.parametrize("text", [README.partition("\n## Measured\n")[2], RESULTS], ids=["README", "results"])
def test_what_was_never_run_is_said_before_any_figure(text):
    said = text.partition("\n|")[0]
    never = said.partition("Never run:")[2].partition(". ")[0]
    assert "TPU" in never and "CIFAR-10" in never and "machines" in never
    assert "results/README.md" in said
    assert re.search(
        r"Images\s+of\s+ImageNet\s+are\s+probably\s+among\s+those\s+that\s+the\s+networks\s+were\s+trained", said
    )


@pytest.mark.parametrize("page", TEXTS)
def test_the_files_that_a_page_links_to_exist(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", TEXTS[page])
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_the_pages_link_to_one_another():
    links = [link for text in TEXTS.values() for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text)]
    assert len(links) > 40


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    pages = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")]
    assert pages and [page for page in pages if page not in nav] == []


@pytest.mark.parametrize(("page", "program"), blocks("python"), ids=lambda value: value if len(value) < 60 else "")
def test_a_program_is_python_and_sets_fields_that_there_are(page, program):
    compile(program, page, "exec")
    assert set(re.findall(r"^\s*config\.(\w+) = ", program, re.M)) <= set(FIELDS)


def commands():
    """(page, verb, arguments) of each `jft VERB ...` and `python scripts/VERB.py ...` in a block."""
    found = []
    for page, block in [*blocks(""), *blocks("sh"), *blocks("bash")]:
        for line in block.replace("\\\n", " ").splitlines():
            match = re.match(r"(?:.*(?:&&|\|) )?(?:python -m )?(?:jft|python scripts/(?=\w+\.py)) ?(\S+)(.*)", line)
            verb = match and match[1].removesuffix(".py").replace("_", "-")
            if verb in VERBS:
                found.append((page, verb, shlex.split(match[2], comments=True)))
    return found


def test_every_command_is_parsed():
    wrong = []
    for page, verb, arguments in commands():
        try:
            _, args = parse(verb, arguments)
        except SystemExit:
            wrong.append((page, verb, arguments))
        else:
            fields = [re.match(r"--config\.(\w+)", field)[1] for field in args.fields]
            wrong += [(page, verb, field) for field in fields if field not in FIELDS]
    assert wrong == [] and len(commands()) > 50


def test_the_reference_has_every_field_and_command():
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs/hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    fields, commands = hooks.config_fields(), hooks.commands()
    assert [name for name in FIELDS if f"| `{name}` |" not in fields] == []
    assert [verb for verb in VERBS if f"## jft {verb}\n" not in commands] == []


def test_images_are_small_and_have_their_credits():
    images = [path for path in (ROOT / "docs/images").iterdir() if path.suffix in (".png", ".jpg")]
    assert len(images) > 3 and [path.name for path in images if path.stat().st_size > 300_000] == []
    assert "CC BY 2.0" in (ROOT / "docs/images/CREDITS.txt").read_text()


def test_no_page_names_a_folder_of_the_machine_that_it_was_written_on():
    assert [page for page, text in TEXTS.items() if re.search(r"(^|[\s`('\"])/(work|root|home|tmp)/\w", text)] == []
