"""A folder that nobody may write, root neither."""

import tempfile


def refuse_to_write(monkeypatch, folder):
    """Makes it one."""
    make = tempfile.TemporaryFile

    def refuse(*given, dir, **more):
        if dir == folder:
            raise OSError(30, "Read-only file system", str(folder / "tmpabc"))
        return make(*given, dir=dir, **more)

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
