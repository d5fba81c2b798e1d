"""The log of a run: lines that say when they were written."""

import datetime

from jft.utils.logger import Logs, read_metrics


def test_a_line_has_its_time_in_utc(tmp_path):
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(milliseconds=1)
    logs = Logs(tmp_path, 0)
    logs.write(7, "checkpoint", {"seconds": 0.5})
    logs.close()
    [line] = read_metrics(tmp_path)
    written = datetime.datetime.fromisoformat(line.pop("time"))
    assert line == {"step": 7, "kind": "checkpoint", "seconds": 0.5}
    assert written.utcoffset() == datetime.timedelta(0)
    assert before <= written <= datetime.datetime.now(datetime.UTC)
