"""The command `jft`, one file a subcommand.

Each module has `arguments(parser)` and `run(args) -> exit status`, and leaves the work to the other rooms.
"""
