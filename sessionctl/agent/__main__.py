"""``python -m sessionctl.agent``: the same entry point as the ``sessionctl-agent`` command."""

from sessionctl.agent.main import main

if __name__ == "__main__":
    main()
