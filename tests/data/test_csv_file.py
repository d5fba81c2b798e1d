"""Images listed in a CSV file: columns, several labels, splits, and one error with the numbers of the rows."""

import re
import unicodedata

import numpy as np
import pytest
from PIL import Image

from jft.config import default_config
from jft.data import datasets, loader, notes
from jft.data.transforms import Preprocess


def load(path, split="all", **options):
    return datasets.load_source("csv", split=split, data_dir=str(path), **{"validation": 0.25, "seed": 0, **options})


@pytest.fixture
def write(tmp_path):
    """Writes list.csv above a folder 'images' of 1.png, 2.png, ... 20.png, whose grays are their numbers."""
    (tmp_path / "images").mkdir()
    for i in range(1, 21):
        Image.new("L", (5, 5), i).save(tmp_path / "images" / f"{i}.png")

    def write(*lines, encoding="utf-8"):
        (tmp_path / "list.csv").write_bytes("\n".join(lines).encode(encoding))
        return tmp_path / "list.csv"

    return write


@pytest.mark.parametrize("header", ["path,label", "Filename, class ", "\ufeffimage,label"])
def test_one_label_each(write, header):
    path = write(header, *(f"images/{i}.png,{('10', '2', 'bus stop')[i % 3]}" for i in range(1, 21)), "")
    source = load(path)
    assert source.class_names == ("2", "10", "bus stop") and not source.multi_label
    assert source.labels.dtype == np.int32 and source.labels.tolist() == [(1, 0, 2)[i % 3] for i in range(1, 21)]
    options = {"batch_size": 20, "fit": "whole", "resize_on": "device", "cache_bytes": 0}
    (batch,) = loader.eval_batches(source, Preprocess(size=4, resize=4), **options)
    assert batch["image"][:, 0, 0, 0].tolist() == list(range(1, 21))  # in the order of the file
    parts = [load(path, split) for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [12, 4, 4]
    assert sorted(np.concatenate([part.indices for part in parts])) == list(range(20))


def test_columns_in_any_order_and_absolute_paths(write, tmp_path):
    path = write("extra,label,path", f"'a',cat,{tmp_path / 'images/3.png'}", '"b, c",dog,images/4.png')
    source = load(path)
    assert [p.name for p in source.images] == ["3.png", "4.png"] and source.class_names == ("cat", "dog")


def test_several_labels(write):
    path = write("path,label", "images/1.png,sea", "images/2.png,sky | sea", "images/3.png,old town|sky")
    source = load(path)
    assert source.class_names == ("old town", "sea", "sky") and source.multi_label
    assert source.labels.dtype == np.uint8 and source.labels.tolist() == [[0, 1, 0], [0, 1, 1], [1, 0, 1]]
    options = {"batch_size": 3, "fit": "whole", "resize_on": "device", "cache_bytes": 0}
    (batch,) = loader.eval_batches(source, Preprocess(size=4, resize=4), **options)
    np.testing.assert_array_equal(batch["label"], source.labels)
    kept = load(path, classes=("sky", "old town"))
    assert kept.labels.tolist() == [[1, 0], [1, 1]] and kept.indices.tolist() == [1, 2]
    # One label each, but a column that promises several.
    assert load(write("path,labels", "images/1.png,sea", "images/2.png,sky")).labels.tolist() == [[1, 0], [0, 1]]


def test_splits_of_its_own(write):
    names = {1: "train", 2: "Train", 3: "val", 4: "test", 5: "TEST"}
    path = write("path,label,split", *(f"images/{i}.png,{'ab'[i % 2]},{name}" for i, name in names.items()))
    found = {split: [p.name for p in load(path, split).images] for split in ("train", "validation", "test")}
    assert found == {"train": ["1.png", "2.png"], "validation": ["3.png"], "test": ["4.png", "5.png"]}


@pytest.mark.parametrize(
    "lines,message",
    [
        (
            ["path,label", "images/1.png,a", "images/1O.png,b"],
            "row 3 lists 'images/1O.png', but there is no file /",
        ),
        (["path,label", "images/1.png,a", "", "images/2.png,"], "row 4 has an empty label"),
        (["path,labels", "images/1.png,a|", "images/2.png,b"], "row 2 has an empty labels"),
        (["path,labels", "images/1.png,a|a"], "row 2 names a label twice: 'a|a'"),
        (["path,label", "images/1.png"], "row 2 has 1 cells, but there are 2 columns"),
        (["path,label", "images/1.png,a", "images,2.png,a"], "row 3 has 3 cells, but there are 2 columns"),
        (["path,label", "images/1.png,a", "images/1.png,b"], "row 3 lists 'images/1.png' again after row 2"),
        (["path,label,split", "images/1.png,a,train", "images/2.png,a,tset"], "row 3 has the split 'tset'"),
        (
            ["path,label,split", "images/1.png,a,train", "images/2.png,b,test"],
            "row 3 has the class 'b', which no training image has",
        ),
        (
            ["path;sign", "images/1.png;a"],
            r"has the columns path, sign, separated by semicolons; it needs path .* and label \(or class.* "
            r"Set image_column and label_column to your columns\.$",
        ),
        (["images/1.png,a", "images/2.png,b"], r"has the columns images/1.png, a, .* must name the columns\.$"),
        (["path,label,label", "images/1.png,a,b"], "has 2 columns named 'label'"),
        (["path,label", "images/1.png,a", ",b"], "row 3 has an empty path"),
        (["path,label"], "lists no images: it has 2 columns and no rows"),
        ([""], "lists no images: it has 0 columns"),
    ],
)
def test_what_is_wrong_is_named_with_its_row(write, lines, message):
    path = write(*lines)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}:? {message}"):
        load(path)


def test_all_wrong_rows_are_one_error(write):
    path = write("path,label", "images/1.png,a", *(f"gone/{i}.png,a" for i in range(7)))
    with pytest.raises(
        ValueError, match=r"row 3 lists 'gone/0.png'.*; row 7 .*; and 2 more rows \(the header is row 1\)"
    ):
        load(path)


def test_no_file_and_no_text(write, tmp_path):
    with pytest.raises(ValueError, match="needs data_dir: a CSV file"):
        load("")
    for gone in ("gone.csv", "images"):
        with pytest.raises(FileNotFoundError, match=rf"there is no file .*{gone}"):
            load(write("") and tmp_path / gone)


def heard(path, split="all", **options):
    """The source, and what is said of it without the path of the list."""
    with notes.heard() as said:
        source = load(path, split, **options)
    return source, [one.removeprefix(f"{path}: ") for one in said]


@pytest.mark.parametrize(
    ("delimiter", "called"), [(",", ""), (";", "semicolons"), ("\t", "tabs"), ("|", r"bars (|)")], ids=repr
)
@pytest.mark.parametrize("header", [("path", "label", "note"), ("note", "label", "path")], ids=str)
def test_delimiters_are_recognized_and_said(write, delimiter, called, header):
    cells = {"path": ("images/1.png", "images/2.png"), "label": ("a", "b"), "note": ('"x, y; z"', "1")}
    rows = [[cells[column][i] for column in header] for i in range(2)]
    source, said = heard(write(*(delimiter.join(row) for row in [header, *rows])))
    assert source.class_names == ("a", "b") and source.labels.tolist() == [0, 1]
    assert said == ([f"cells are separated by {called}."] if called else [])


def test_a_bar_in_labels_is_no_delimiter(write):
    for header in ("path,labels", "path;labels"):
        rows = ("images/1.png,a|b", "images/2.png,b|c")
        source, _ = heard(write(header, *(row.replace(",", header[4]) for row in rows)))
        assert source.class_names == ("a", "b", "c") and source.labels.tolist() == [[1, 1, 0], [0, 1, 1]]


def test_excels_own_first_line_says_the_delimiter(write):
    path = write("sep=;", "path;label", "images/1.png;a", "images/2.png;b,c")
    assert heard(path)[0].class_names == ("a", "b,c")
    with pytest.raises(ValueError, match=r"row 4 lists 'gone.png'"):
        load(write("sep=;", "path;label", "images/1.png;a", "gone.png;b"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_with_a_mark_are_read(write, encoding):
    path = write("path;label", "images/1.png;Züge", "images/2.png;für", encoding=encoding)
    source, said = heard(path)
    assert source.class_names == ("Züge", "für")
    text = "" if encoding.startswith("utf-8") else f"; the text is {encoding.upper()}"
    assert said == [f"cells are separated by semicolons{text}."]


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        (
            "latin-1",
            r"UTF-8 \(row 3 holds the byte 0xfc, which reads 'images/2.png,für'.*iconv -f WINDOWS-1252 -t UTF-8",
        ),
        ("cp1252", r"UTF-8 \(row 3 holds the byte 0xfc, .*save it as 'CSV UTF-8'"),
        ("utf-16-le", r"UTF-8 \(.*iconv -f ENCODING -t UTF-8"),
    ],
)
def test_other_encodings_have_their_remedy(write, encoding, message):
    with pytest.raises(ValueError, match=f"list.csv as a CSV file in {message}"):
        load(write("path,label", "images/1.png,a", "images/2.png,für", encoding=encoding))


def test_a_workbook_is_no_list(tmp_path):
    (tmp_path / "list.csv").write_bytes(b"PK\x03\x04\x14\0\xff\xff")
    with pytest.raises(ValueError, match=r"it is an Excel workbook\): save it as 'CSV UTF-8'"):
        load(tmp_path / "list.csv")


@pytest.mark.parametrize(
    ("header", "image", "label"),
    [
        ("image_path,target", "image_path", "target"),
        ("file,category", "file", "category"),
        ("id,breed", "id", "breed"),
        ("Image Path,Class-Name", "image path", "class-name"),
        ("FileName,species", "filename", "species"),
    ],
)
def test_usual_columns_are_known_and_said(write, header, image, label):
    source, (said,) = heard(write(header, "images/1.png,a", "images/2.png,b"))
    assert source.class_names == ("a", "b")
    told = [f"{image!r} is the column of the images"] if image != "filename" else []
    assert said == "; ".join([*told, f"{label!r} is the column of the labels"]) + "."


def test_other_columns_are_named(write):
    path = write("where,kind,label", "images/1.png,a,x", "images/2.png,b,x")
    source, _ = heard(path, image_column="Where", label_column="kind")
    assert source.class_names == ("a", "b")
    with pytest.raises(ValueError, match=r"unknown column of .*list\.csv 'wher', did you mean 'where'"):
        load(path, image_column="wher")
    with pytest.raises(ValueError, match="'where' cannot be both image_column and label_column"):
        load(path, image_column="where", label_column="where")


def test_names_alike_but_for_form_are_warned_of(write):
    labels = ("1", "1.0", "01", " A", "a", "b")
    _, said = heard(write("path,label", *(f"images/{i + 1}.png,{label}" for i, label in enumerate(labels))))
    assert len(said) == 1 and "only in case, blanks or zeros: '01' and '1' and '1.0'; 'A' and 'a'." in said[0]


def test_labels_are_compared_in_nfc(write):
    both = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    source, said = heard(write("path,label", *(f"images/{i + 1}.png,{label}" for i, label in enumerate(both))))
    assert source.class_names == (both[0],) and not said


def test_several_labels_are_said_unless_they_were_asked_for(write):
    rows = ("images/1.png,a|b", "images/2.png,b", "images/3.png,b|c")
    source, said = heard(write("path,label", *rows))
    assert source.multi_label
    assert len(said) == 1 and "'label' holds several labels in 2 rows, joined by '|'" in said[0]
    assert "name the column 'labels' to confirm" in said[0]
    asked, said = heard(write("path,labels", *rows))
    assert asked.multi_label and not said


@pytest.mark.parametrize(
    ("column", "values", "looks"),
    [
        ("subset", ("train", "test", "Testing"), True),
        ("fold", ("Training", "dev", ""), True),
        ("set", ("train", "test", "other"), False),
        ("set", ("train", "train", "train"), False),
        ("is_valid", ("True", "False", "False"), True),
        ("is_red", ("True", "False", "False"), False),
        ("fold", ("1", "2", "3"), False),
    ],
)
def test_a_column_that_looks_like_a_split_is_said(write, column, values, looks):
    rows = [f"images/{i + 1}.png,a,{value}" for i, value in enumerate(values)]
    told = f"the column {column!r} looks like a split and is not used; name it 'split' to use it."
    assert heard(write(f"path,label,{column}", *rows))[1] == ([told] if looks else [])


def test_splits_are_spelled_as_those_of_folders(write):
    spelled = {1: "Training", 2: "train", 3: "dev", 4: "valid", 5: "Testing", 6: "test "}
    path = write("path,label,Split", *(f"images/{i}.png,{'ab'[i % 2]},{name}" for i, name in spelled.items()))
    found = {split: [p.name for p in load(path, split).images] for split in ("train", "validation", "test")}
    assert found == {"train": ["1.png", "2.png"], "validation": ["3.png", "4.png"], "test": ["5.png", "6.png"]}


def test_blank_splits_are_refused_in_one_line(write):
    path = write("path,label,split", *(f"images/{i}.png,a,{'train' if i < 3 else ' '}" for i in range(1, 21)))
    with pytest.raises(
        ValueError, match=r"list.csv: the split is empty in 18 of 20 rows, first in row 4: write train"
    ) as error:
        load(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_config_of_before_names_no_columns(write):
    path = write("path,label", *(f"images/{i}.png,{'ab'[i % 2]}" for i in range(1, 21)))
    config = default_config().to_dict() | {"dataset": "csv", "data_dir": str(path)}
    for field in ("image_column", "label_column"):
        del config[field]
    assert len(datasets.of_config(config, "test")) == 4
    assert datasets.official_splits(config, str(path)) == ("train",)


def test_the_columns_of_a_config_are_of_its_own_data(write):
    path = write("where,kind", *(f"images/{i}.png,{'ab'[i % 2]}" for i in range(1, 21)))
    config = default_config().to_dict() | {"dataset": "csv", "data_dir": str(path), "image_column": "where"}
    config |= {"label_column": "kind"}
    assert len(datasets.of_config(config, "all")) == len(datasets.of_config(config, "all", data_dir=str(path))) == 20
    assert datasets.columns("", "kind") == {"label_column": "kind"}
    config |= {"dataset": "folder", "image_column": "", "label_column": ""}
    other = {"dataset": "csv", "data_dir": str(path), **datasets.columns("where", "kind")}
    assert len(datasets.of_config(config, "all", **other)) == 20


@pytest.mark.parametrize("flag", ["--image-column", "--image_column"])
def test_commands_take_the_columns(flag, command, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr("jft.training.suggest_report.write", lambda config, out, **options: seen.update(config))
    assert command("suggest", "list.csv", "--dataset", "csv", flag, "where", "--label-column", "kind")[0] == 0
    assert (seen["image_column"], seen["label_column"]) == ("where", "kind")
    monkeypatch.setattr("jft.evaluation.evaluate.evaluate", lambda run, **images: seen.update(images) or {})
    monkeypatch.setattr("jft.evaluation.results.format_evaluation", lambda result: "done")
    assert command("evaluate", "run", flag, "there")[:2] == (0, "done\n")
    assert (seen["image_column"], seen["label_column"]) == ("there", "")
