"""The verbs of `jft`, one a file: `arguments(parser)`, then `run(args) -> exit status`, one call into jft."""
