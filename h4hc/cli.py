"""The command line: finds the command, runs it, and turns every way to end into an exit code.

Imports nothing heavy, so that `h4hc --help` is quick: a command's module is imported when it is run.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

import h4hc
from h4hc.console import Console
from h4hc.errors import ExitCode, H4hcError, LimitError, UserError
from h4hc.layout_check import check_layout

COMMANDS: dict[str, tuple[str, str]] = {
    "classify": ("h4hc.commands.classify", "Say what bounds each operator on each device, and who may run it."),
    "compile": ("h4hc.commands.compile", "Plan a model for a target; write the report and the partitioned ONNX."),
    "estimate": ("h4hc.commands.estimate", "Estimate a model on each device: cycles, latency, energy; places nothing."),
    "explain": ("h4hc.commands.explain", "Say why a node is where it is, and what elsewhere would cost."),
    "memory": ("h4hc.commands.memory", "Pack buffers into memory, check a packing, or export a plan's problem."),
    "nas": ("h4hc.commands.nas", "Search for networks: train a supernet, search it for a system, export."),
    "passes": ("h4hc.commands.passes", "List the passes, or run some on a model."),
    "report": ("h4hc.commands.report", "Show the report of an output folder."),
    "study": ("h4hc.commands.study", "NPU-only against NPU + CIM, beside the figures of the paper."),
    "sweep": ("h4hc.commands.sweep", "Plan models on a grid of systems; write tables and plots."),
    "targets": ("h4hc.commands.targets", "List the targets, or show one with its numbers and supported operators."),
    "verify": ("h4hc.commands.verify", "Run the original, legalised and partitioned model and compare."),
    "zoo": ("h4hc.commands.zoo", "List the built-in models, or write one to a file."),
}

INTERRUPTED_CODE = "H4EC00"  # not an H4hcError: nobody raises it, the user stops the program

EXIT_CODES = """\b
Exit codes
  0  ok                            6  target invalid
  1  internal error                7  numerics differ
  2  wrong use                     8  gate or budget not met
  3  model malformed or unsafe     9  time or resource limit
  4  unsupported operator         10  optional tool missing
  5  does not fit                 11  integrity of a folder
                                 130  interrupted
"""


class LazyGroup(click.Group):
    """A group that knows its commands' names and one-line helps, and imports a command only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        import importlib

        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], COMMANDS, n=2)
            hint = f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in sorted(COMMANDS)])


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        console: Console = ctx.obj
        console.result({"name": "h4hc", "version": h4hc.__version__}, lambda: f"h4hc {h4hc.__version__}\n")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@click.option("--json", is_flag=True, expose_value=False, help="One JSON value on stdout; also after the command.")
@click.option("-q", "--quiet", is_flag=True, expose_value=False, help="No warnings and no log.")
@click.option("-v", "--verbose", is_flag=True, expose_value=False, help="Log, notes, tracebacks of bugs.")
def cli() -> None:
    """Compile ONNX vision models for chips with an NPU and compute-in-memory.

    \b
      h4hc zoo hybrid-xxs -o model.onnx
      h4hc compile model.onnx --target npu+cim -o out
      h4hc verify out
      h4hc explain out NODE
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Never raises."""
    _prepare_streams()
    console = _console(arguments)
    try:
        code = _guarded(arguments, console)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has seen enough
        _silence_stdout()
        return console.exit_code
    except OSError as error:  # the result could not be printed
        _silence_stdout()
        code, console.as_json = console.exit_code, False  # stderr is what is left to speak on
        _os_error(error, console)
        return code or console.exit_code


def _prepare_streams() -> None:
    """A closed stream must not end the program, nor a name in a script that the terminal's encoding lacks."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (lives as long as the process)
        reconfigure: Any = getattr(getattr(sys, name), "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _silence_stdout() -> None:
    """What is still in the buffer goes nowhere, so that the interpreter does not fail on it at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _console(arguments: Sequence[str]) -> Console:
    """Read the global flags wherever they stand, so that they hold for errors of the arguments too."""
    options = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    level = 1 if {"-v", "--verbose"} & set(options) else -1 if {"-q", "--quiet"} & set(options) else 0
    return Console("--json" in options, level)


def _guarded(arguments: Sequence[str], console: Console) -> int:
    try:
        check_layout()
        code = cli.main(list(arguments), prog_name="h4hc", standalone_mode=False, obj=console)
        return code if isinstance(code, int) else int(ExitCode.OK)
    except (KeyboardInterrupt, click.Abort):
        console.failure(INTERRUPTED_CODE, int(ExitCode.INTERRUPTED), ["interrupted"])
        return int(ExitCode.INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as error:
        if console.as_json:
            console.failure(UserError.code, int(ExitCode.USAGE), ["no command given", "see `h4hc --help`"])
        else:
            click.echo(error.format_message())
        return int(ExitCode.USAGE)
    except click.ClickException as error:
        hint = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "h4hc"
        lines = [*error.format_message().expandtabs(2).splitlines(), f"see `{hint} --help`"]
        console.failure(UserError.code, int(ExitCode.USAGE), lines)
        return int(ExitCode.USAGE)
    except H4hcError as error:
        console.error(error)
        if console.debug and error.exit_code == ExitCode.INTERNAL:
            traceback.print_exc()
        return int(error.exit_code)
    except SystemExit:  # click's own answer to a closed pipe; nothing here calls sys.exit
        return console.exit_code
    except BrokenPipeError:
        raise
    except MemoryError:
        console.failure(LimitError.code, int(ExitCode.LIMIT), ["out of memory", "the model needs more than there is"])
        return int(ExitCode.LIMIT)
    except OSError as error:
        return _os_error(error, console)
    except Exception as error:  # the last line of defence: a bug must not show a traceback unless asked for
        return _bug(error, console)


def _os_error(error: OSError, console: Console) -> int:
    """A file or stream that the system refuses: no bug of ours, and not always a fault of the user's."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    kind = LimitError if full else UserError
    what = "the disk is full" if full else f"the system refuses: {error.strerror or error}"
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    console.failure(kind.code, int(kind.exit_code), [what, *names])
    return int(kind.exit_code)


def _bug(error: Exception, console: Console) -> int:
    if console.debug:
        traceback.print_exc()
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    lines = [f"this is a bug of h4hc: {what}", "please report it with the command, the model and the output of -v"]
    console.failure(H4hcError.code, int(ExitCode.INTERNAL), lines)
    return int(ExitCode.INTERNAL)
