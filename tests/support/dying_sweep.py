"""One `sweep` that kills itself at a step: `python -m tests.support.dying_sweep KUBECONFIG before|after METHOD NTH`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace

from sessionctl.factory import DirectOptions, open_factory
from tests.support.between import Hooks


async def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def _sweep(kubeconfig: str, when: str, method: str, nth: int) -> None:
    hooks = Hooks()
    (hooks.before if when == "before" else hooks.after)(method, _die, nth=nth)
    async with open_factory(DirectOptions(kubeconfig=kubeconfig)) as factory:
        hooked = replace(factory, cluster=hooks.around(factory.cluster), store=hooks.around(factory.store))
        await (await hooked.create_sweep_loop()).once()


if __name__ == "__main__":
    asyncio.run(_sweep(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
