"""The `mmace` command. Nothing heavy is imported here: `mmace --help` answers at once."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Annotated

import typer

from mmace.errors import UserError
from mmace_flows.execution.threads import default_to_one_thread

app = typer.Typer(
    name="mmace",
    help="From crystal structures through DFT to magnetic machine-learning potentials.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

MODULES = (
    "anisotropy",
    "anisotropy_training",
    "archive",
    "atoms",
    "build",
    "campaign",
    "cluster",
    "converge",
    "data",
    "label",
    "learning",
    "learning_finetune",
    "model",
    "one_body",
    "operations",
    "project",
    "query",
    "report",
    "serve",
    "spin_orbit",
    "structures",
    "system",
    "uncertainty",
)
# run GPAW in their own process, whose matrices are so small that more threads than idle cores make it many times slower
DFT_COMMANDS = ("atom-curve", "converge", "label", "soc")
USER_ERROR, INTERRUPTED = 2, 130  # exit codes
_ClickException: type[Exception] = next(
    base for base in reversed(typer.BadParameter.__mro__) if base.__name__ == "ClickException"
)


def _version(wanted: bool) -> None:
    if wanted:
        from mmace_flows import __version__

        typer.echo(f"mmace-flows {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """From crystal structures through DFT to magnetic machine-learning potentials."""


for name in MODULES:
    import_module(f"mmace_flows.cli.{name}").register(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: a user's errors are one line and exit code 2, never a traceback."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    if arguments[:1] and arguments[0] in DFT_COMMANDS:
        default_to_one_thread(os.environ)
    try:
        # not standalone: click would print usage and a box around errors, over several lines
        result = app(args=arguments, prog_name="mmace", standalone_mode=False)
    except UserError as error:
        return _complain(str(error))
    except _ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help page
            typer.echo(error.format_message())  # type: ignore[attr-defined]
            return USER_ERROR
        return _complain(error.format_message() + _help_hint(error))  # type: ignore[attr-defined]
    except typer.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `mmace status | head`
        sys.stderr.close()
        return 1
    except OSError as error:
        if error.strerror is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror.lower()}")
    except Exception as error:
        from mmace_flows.execution.backoff import unreachable

        if not unreachable(error):
            raise
        return _complain(f"{error} (the database is gone, or another store of this campaign)")
    return result if isinstance(result, int) else 0


def _complain(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return USER_ERROR


def _help_hint(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f" (see `{context.command_path} --help`)" if context is not None else ""


if __name__ == "__main__":
    main()
