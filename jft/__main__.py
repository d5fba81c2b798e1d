"""`python -m jft` is the command `jft`."""

from jft.cli.main import main

if __name__ == "__main__":
    main()
