"""`jft serve` without its extra."""

import sys


def test_what_is_not_installed_is_named_with_its_extra(command, monkeypatch):
    for module in ("jft.serving.server", "jft.serving.app"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    status, _, error = command("serve", "runs/flowers")
    assert status == 1 and "starlette" in error and "pip install 'jft[serve]'" in error
