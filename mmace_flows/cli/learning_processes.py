"""Commands that torchrun starts several times at once: one process speaks for all."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Any

import typer

from mmace.errors import SaidElsewhere, UserError

USER_ERROR = 2  # exit code
PATIENCE = 10.0  # seconds; torchrun ends all processes when the first one fails: let that be the one that tells why


def follows() -> bool:
    """Was this process started by torchrun, and is it not the first of all?"""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and os.environ.get("RANK", "0") != "0"


def said_once(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command, with refusals that all processes share told by one of them, and no output of the others.

    Until the processes know of each other, all of them do and find the same; afterwards the training sees to it.
    """

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not follows():
            return command(*args, **kwargs)
        import logging

        import torch.distributed as dist

        logger = logging.getLogger("mmace")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            return command(*args, **kwargs)
        except SaidElsewhere:
            time.sleep(PATIENCE)
            raise typer.Exit(USER_ERROR) from None
        except UserError:
            first_here = os.environ.get("LOCAL_RANK", "0") == "0"  # another machine may have other files
            if dist.is_initialized() or first_here:  # its own trouble, which nobody else tells of
                raise
            time.sleep(PATIENCE)
            raise typer.Exit(USER_ERROR) from None
        finally:
            logger.setLevel(level)

    return run
