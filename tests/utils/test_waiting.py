"""Whoever waits in silence is told what for, once; who is told something is not."""

import sys
import time

from jft.utils import waiting
from jft.utils.text import terminal_stream


def test_silence_is_explained_once_for_each_thing(capsys, monkeypatch):
    monkeypatch.setattr(waiting, "PATIENCE", 0.2)
    waiting.doing("loading JAX")
    with waiting.told_while_silent():
        time.sleep(1)
        waiting.doing("compiling")
        time.sleep(1)
    waiting.doing("nothing")
    time.sleep(0.5)
    assert capsys.readouterr().err == "loading JAX ...\ncompiling ...\n"


def test_what_is_within_something_ends_with_it(capsys, monkeypatch):
    monkeypatch.setattr(waiting, "PATIENCE", 0.2)

    @waiting.during("evaluating")
    def evaluate():
        with waiting.during("compiling the forward pass"):
            time.sleep(0.6)
        time.sleep(0.6)

    with waiting.told_while_silent():
        waiting.doing("training")
        evaluate()
        time.sleep(0.6)
    assert capsys.readouterr().err.splitlines() == ["compiling the forward pass ...", "evaluating ...", "training ..."]


def test_what_is_printed_is_word_enough(capsys, monkeypatch):
    monkeypatch.setattr(waiting, "PATIENCE", 0.5)
    monkeypatch.setattr(sys, "stdout", terminal_stream(sys.stdout))
    waiting.doing("loading JAX")
    with waiting.told_while_silent():
        for _ in range(10):
            time.sleep(0.1)
            print("a line")
    assert capsys.readouterr().err == ""
