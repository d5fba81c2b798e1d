"""Pictures listed in a CSV file: columns, several labels, splits, and one error with the numbers of the rows."""

import re

import numpy as np
import pytest
from PIL import Image

from jft.data import pipeline, sources
from jft.data.preprocess import Preprocess


def load(path, split="all", **options):
    return sources.load_source("csv", split=split, data_dir=str(path), **{"validation": 0.25, "seed": 0, **options})


@pytest.fixture
def write(tmp_path):
    """Writes list.csv above a folder 'pictures' of 1.png, 2.png, ... 20.png, whose greys are their numbers."""
    (tmp_path / "pictures").mkdir()
    for i in range(1, 21):
        Image.new("L", (5, 5), i).save(tmp_path / "pictures" / f"{i}.png")

    def write(*lines, encoding="utf-8"):
        (tmp_path / "list.csv").write_bytes("\n".join(lines).encode(encoding))
        return tmp_path / "list.csv"

    return write


@pytest.mark.parametrize("header", ["path,label", "Filename, class ", "\ufeffimage,label"])
def test_one_label_each(write, header):
    path = write(header, *(f"pictures/{i}.png,{('10', '2', 'bus stop')[i % 3]}" for i in range(1, 21)), "")
    source = load(path)
    assert source.class_names == ("2", "10", "bus stop") and not source.multi_label
    assert source.labels.dtype == np.int32 and source.labels.tolist() == [(1, 0, 2)[i % 3] for i in range(1, 21)]
    options = {"batch_size": 20, "fit": "whole", "resize_on": "device", "cache_bytes": 0}
    (batch,) = pipeline.eval_batches(source, Preprocess(size=4, resize=4), **options)
    assert batch["image"][:, 0, 0, 0].tolist() == list(range(1, 21))  # in the order of the file
    parts = [load(path, split) for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [12, 4, 4]
    assert sorted(np.concatenate([part.indices for part in parts])) == list(range(20))


def test_columns_in_any_order_and_absolute_paths(write, tmp_path):
    path = write("extra,label,path", f"'a',cat,{tmp_path / 'pictures/3.png'}", '"b, c",dog,pictures/4.png')
    source = load(path)
    assert [p.name for p in source.pictures] == ["3.png", "4.png"] and source.class_names == ("cat", "dog")


def test_several_labels(write):
    path = write("path,label", "pictures/1.png,sea", "pictures/2.png,sky | sea", "pictures/3.png,old town|sky")
    source = load(path)
    assert source.class_names == ("old town", "sea", "sky") and source.multi_label
    assert source.labels.dtype == np.uint8 and source.labels.tolist() == [[0, 1, 0], [0, 1, 1], [1, 0, 1]]
    options = {"batch_size": 3, "fit": "whole", "resize_on": "device", "cache_bytes": 0}
    (batch,) = pipeline.eval_batches(source, Preprocess(size=4, resize=4), **options)
    np.testing.assert_array_equal(batch["label"], source.labels)
    kept = load(path, classes=("sky", "old town"))
    assert kept.labels.tolist() == [[1, 0], [1, 1]] and kept.indices.tolist() == [1, 2]
    # One label each, but a column that promises several.
    assert load(write("path,labels", "pictures/1.png,sea", "pictures/2.png,sky")).labels.tolist() == [[1, 0], [0, 1]]


def test_splits_of_its_own(write):
    names = {1: "train", 2: "Train", 3: "val", 4: "test", 5: "TEST"}
    path = write("path,label,split", *(f"pictures/{i}.png,{'ab'[i % 2]},{name}" for i, name in names.items()))
    found = {split: [p.name for p in load(path, split).pictures] for split in ("train", "validation", "test")}
    assert found == {"train": ["1.png", "2.png"], "validation": ["3.png"], "test": ["4.png", "5.png"]}


@pytest.mark.parametrize(
    "lines,message",
    [
        (
            ["path,label", "pictures/1.png,a", "pictures/1O.png,b"],
            "row 3 lists 'pictures/1O.png', but there is no file /",
        ),
        (["path,label", "pictures/1.png,a", "", "pictures/2.png,"], "row 4 has an empty label"),
        (["path,labels", "pictures/1.png,a|", "pictures/2.png,b"], "row 2 has an empty labels"),
        (["path,labels", "pictures/1.png,a|a"], "row 2 names a label twice: 'a|a'"),
        (["path,label", "pictures/1.png"], "row 2 has 1 cells, but there are 2 columns"),
        (["path,label", "pictures/1.png,a", "pictures,2.png,a"], "row 3 has 3 cells, but there are 2 columns"),
        (["path,label", "pictures/1.png,a", "pictures/1.png,b"], "row 3 lists 'pictures/1.png' as row 2 does"),
        (["path,label,split", "pictures/1.png,a,train", "pictures/2.png,a,tset"], "row 3 is of the split 'tset'"),
        (
            ["path,label,split", "pictures/1.png,a,train", "pictures/2.png,b,test"],
            "row 3 is of the class 'b', of which",
        ),
        (["path;label", "pictures/1.png;a"], "has the columns path;label; it needs path .* separated by commas"),
        (["path,sign", "pictures/1.png,a"], r"has the columns path, sign; it needs path .* and label \(or class"),
        (["pictures/1.png,a", "pictures/2.png,b"], "has the columns pictures/1.png, a; it needs path"),
        (["path,label"], "lists no pictures: it has 2 columns and no rows"),
        ([""], "lists no pictures: it has 0 columns"),
    ],
)
def test_what_is_wrong_is_named_with_its_row(write, lines, message):
    path = write(*lines)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}:? {message}"):
        load(path)


def test_all_wrong_rows_are_one_error(write):
    path = write("path,label", "pictures/1.png,a", *(f"gone/{i}.png,a" for i in range(7)))
    with pytest.raises(
        ValueError, match=r"row 3 lists 'gone/0.png'.*; row 7 .*; and 2 more rows \(the header is row 1\)"
    ):
        load(path)


def test_no_file_and_no_text(write, tmp_path):
    with pytest.raises(ValueError, match="needs data_dir: a CSV file"):
        load("")
    for gone in ("gone.csv", "pictures"):
        with pytest.raises(FileNotFoundError, match=rf"there is no file .*{gone}"):
            load(write("") and tmp_path / gone)
    with pytest.raises(ValueError, match=r"cannot read .*list.csv as a CSV file in UTF-8 \(.*codec"):
        load(write("path,label", "pictures/1.png,Stoppschild für Züge", encoding="utf-16"))
