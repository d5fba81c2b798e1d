"""A few of the broken files that fuzz_files.py makes by the thousand, of each kind."""

import fuzz_files
import pytest
from fuzz_seeds import KINDS


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_sound_files_are_read(kind, tmp_path):
    for seed in kind.seeds():
        (tmp_path / kind.file).write_bytes(seed)
        kind.read(tmp_path / kind.file)


# Each of the others needs a process for each file; those of test_readers.py are broken as well.
QUICK = [kind for kind in KINDS if "Keras" not in kind.name]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", QUICK, ids=lambda kind: kind.name)
def test_broken_files_are_read_or_refused(kind, tmp_path):
    seeds = kind.seeds()
    for number in range(15 if kind.share == 1 else 3):
        result = fuzz_files.attempt(kind, number, 1, seeds, tmp_path)
        assert result.outcome in ("accepted", "refused"), (number, result.text)


def test_mutations_come_of_seed_and_number():
    kind = KINDS[0]
    made = [fuzz_files.mutation(kind, number, seed, kind.seeds()) for seed, number in ((0, 7), (0, 7), (0, 8), (1, 7))]
    assert made[0] == made[1] and len(set(made)) == 3
