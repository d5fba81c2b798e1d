"""A folder that is no run is named, with the run that may be meant."""

import pytest

from jft.utils.run_folder import check_run


def test_which_run_may_be_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("flowers/frozen", "flowers/tuned", "signs"):
        (tmp_path / "runs" / name / "checkpoints").mkdir(parents=True)
    (tmp_path / "photos").mkdir()
    check_run("runs/signs")
    for folder, told in (
        ("runs/sings", r"there is no folder runs/sings, did you mean 'runs/signs'\?$"),
        ("runs/flower", r"there is no folder runs/flower, did you mean 'runs/flowers'\?$"),
        ("elsewhere", r"there is no folder elsewhere: give the folder that `jft train` wrote\.$"),
        ("photos", r"photos holds no checkpoints: give the folder that `jft train` wrote\.$"),
        ("runs/flowers", r"holds no checkpoints: give one of runs/flowers/frozen, runs/flowers/tuned\.$"),
    ):
        with pytest.raises(ValueError, match=told):
            check_run(folder)


@pytest.mark.parametrize(
    "arguments", [("report",), ("evaluate",), ("export", "--out", "out"), ("replay", "--step", "1")]
)
def test_commands_name_a_run_that_does_not_exist(command, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    verb, *rest = arguments
    assert command(verb, "runs/nothing", *rest) == (
        1,
        "",
        "error: there is no folder runs/nothing: give the folder that `jft train` wrote.\n",
    )
