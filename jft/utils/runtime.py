"""Settings of programs: formats warnings, quiets libraries, escapes untrusted names, collects garbage less often."""

import gc
import logging as std_logging
import re
import warnings

from absl import logging

from jft.utils import waiting
from jft.utils.text import one_record


class _Plain(std_logging.Handler):
    """Writes 'WARNING: ...' to standard error, above a progress bar if there is one."""

    def emit(self, record: std_logging.LogRecord) -> None:
        """Writes one record."""
        waiting.say(f"{record.levelname}: {record.getMessage()}")


def configure() -> None:
    """Makes the settings. Programs call it; XLA's flags, importing jft sets (`xla_flags`)."""
    # Tracing a model makes objects by the hundred thousand, which all stay: to look for garbage among them after every
    # 700 of them, as Python does, takes a fifth of the time.
    gc.set_threshold(100_000, 20, 50)
    if not std_logging.root.handlers:  # a program that embeds jft has its own
        plain = _Plain()
        plain.addFilter(_escape)
        std_logging.root.addHandler(plain)
    logging.set_verbosity(logging.WARNING)
    # They warn of their own defaults, and tell of one failure many times; what matters of it jft says itself.
    libraries = re.compile("orbax|tensorflow_datasets")
    logging.get_absl_logger().addFilter(lambda record: not libraries.search(record.pathname))
    warnings.filterwarnings("ignore", module="PIL")  # of each broken tag in strangers' files, by the thousand
    logging.get_absl_logger().addFilter(_escape)
    # asyncio repeats, after our error and at length, what failed in Orbax's other tasks for the same reason.
    std_logging.getLogger("asyncio").setLevel(std_logging.CRITICAL)


def _escape(record: std_logging.LogRecord) -> bool:
    """A filter that lets all pass: what a record says becomes one that no name in it can break."""
    record.msg, record.args = one_record(record.getMessage()), None
    return True
