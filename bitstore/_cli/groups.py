"""Groups of options: dataclasses in the signature of a command, which the framework sees as their fields."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from bitstore._cli.reporting import Reporting
from bitstore._cli.terminal import INTERRUPTED, End, crashed

__all__ = ["as_command"]


def as_command(command: Callable[..., None]) -> Callable[..., None]:
    """`command` as the framework sees it: in place of each parameter that is a group of options, the group's options.

    A group is a dataclass whose fields are options. `Reporting` is entered while the command runs. A Ctrl-C ends the
    command with its exit code.
    """
    # Not `get_type_hints`: on Python 3.10 it hides an annotation inside Optional where the default is None.
    declared = inspect.signature(command, eval_str=True).parameters
    groups: dict[str, Any] = {
        name: parameter.annotation
        for name, parameter in declared.items()
        if dataclasses.is_dataclass(parameter.annotation)
    }
    parameters = []
    for name, parameter in declared.items():
        if name in groups:
            fields = get_type_hints(groups[name], include_extras=True)
            parameters += [
                inspect.Parameter(
                    field.name, parameter.KEYWORD_ONLY, default=field.default, annotation=fields[field.name]
                )
                for field in dataclasses.fields(groups[name])
            ]
        else:
            parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY))

    def spliced(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in dataclasses.fields(group)})
        reporting = next((value for value in given.values() if isinstance(value, Reporting)), Reporting())
        try:
            with reporting.entered():
                command(**given)
        except KeyboardInterrupt:
            raise End(INTERRUPTED) from None
        except SystemExit as end:  # of a user's module: the framework ends with 0, such as after a completion
            raise End(crashed(end)) from None

    spliced.__name__, spliced.__doc__ = command.__name__, command.__doc__
    spliced.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    spliced.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return spliced
