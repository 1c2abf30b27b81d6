"""``python -m sessionctl``: the same entry point as the ``sessionctl`` command."""

from sessionctl.cli.app import main

if __name__ == "__main__":
    main()
