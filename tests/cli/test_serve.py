"""`jft serve` without its extra."""

import sys

import pytest


def test_what_is_not_installed_is_named_with_its_extra(command, monkeypatch):
    for module in ("jft.serving.server", "jft.serving.app"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    status, _, error = command("serve", "runs/flowers")
    assert status == 1 and "starlette" in error and "pip install 'jft[serve]'" in error


@pytest.mark.parametrize("port", [-1, 70000])
def test_a_port_that_there_is_not_is_refused(command, port):
    pytest.importorskip("jft.serving.app", reason="pip install 'jft[serve]'")
    status, _, error = command("serve", "runs/flowers", f"--port={port}")
    assert status == 1 and f"--port {port}" in error and "65535" in error
