"""The commands and their options. Exit codes are the same everywhere; `--help` tells them."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import bitstore
from bitstore._cli.table import COMMANDS
from bitstore._cli.terminal import INTERRUPTED, End, crashed, epilog, in_words, no_reader, refuse, say, show
from bitstore._transport.native.choice import choice
from bitstore.errors import BitstoreError

__all__ = ["run"]


class _Commands(TyperGroup):
    """The commands, each imported when it is asked for: most need more time to be imported than to run."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]  # names, for advice after a typing error

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name; None: there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, function, _, examples = COMMANDS[cmd_name]
        try:
            found = getattr(importlib.import_module(f"bitstore._cli.{module}"), function)
            if isinstance(found, typer.Typer):
                return typer.main.get_command(found)
            from bitstore._cli.groups import as_command
        except ModuleNotFoundError as error:
            refuse(f"this command needs {error.name}, which is not installed")
        except Exception as error:  # such as a broken build of a library
            crashed(error)
            raise End(3) from error
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(name=cmd_name, epilog=epilog(*examples))(as_command(found))
        return typer.main.get_command(alone)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in COMMANDS.items()])


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fetch blobs by content hash, from whatever mix of buckets, caches and paid APIs holds them.",
    epilog=epilog(
        "bitstore demo",
        "bitstore fetch hashes.txt -o blobs --store s3://bucket/prefix/",
        "bitstore fetch --help",
    ),
)
_UsageError: Any = typer.BadParameter.__base__  # whichever package the framework has it from


def run() -> int:
    """Run what `sys.argv` says; returns the exit code."""
    try:
        code: object = app(prog_name="bitstore", standalone_mode=False)
    except End as end:
        return end.code
    except _UsageError as error:
        message = error.format_message()
        if not message.startswith("Usage"):  # no arguments at all: the message is the help
            message = ("" if error.ctx is None else f"{error.ctx.get_usage()}\n") + f"bitstore: {message}"
        say(message)
        return 3
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        return no_reader()
    except OSError as error:  # commands report their own: this is about the lines that they show
        if isinstance(error, BitstoreError):
            return crashed(error)
        return no_reader(f"cannot write to standard output: {in_words(error)}")
    except SystemExit as end:  # the framework's own
        if isinstance(end.__context__, BrokenPipeError):
            return no_reader()
        return crashed(end) if end.code else 0
    except Exception as error:  # a defect: whether the blobs are there is unknown
        return crashed(error)
    return {0: 0, None: 0, INTERRUPTED: INTERRUPTED}.get(code, 3)  # type: ignore[call-overload, no-any-return]


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version, and whether the native transport is used.", is_eager=True),
    ] = False,
) -> None:
    """Fetch blobs by content hash, from whatever mix of buckets, caches and paid APIs holds them."""
    if version:
        show(f"{bitstore.__version__}\n{choice()}")
        raise typer.Exit
