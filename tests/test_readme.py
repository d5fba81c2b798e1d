"""What the README says first of its figures, and the files that it names."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_what_was_never_run_is_said_before_any_figure():
    said = README.partition("\n## Measured\n")[2].partition("\n|")[0]
    never = said.partition("Never run:")[2].partition(". ")[0]
    assert "TPU" in never and "CIFAR-10" in never and "machines" in never
    assert "results/README.md" in said
    assert re.search(r"Images of ImageNet are probably among those that the\s+networks were\s+trained on", said)


def test_the_files_that_it_links_to_exist():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert len(links) > 3
    assert [link for link in links if not (ROOT / link).exists()] == []
