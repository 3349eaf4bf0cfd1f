"""Convert values of a YAML file or a command line to the types of the fields of a recipe."""

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

_SCALARS = {
    str: ("a text", (str, int, float)),
    int: ("a whole number", (int, str)),
    float: ("a number", (int, float, str)),
    bool: ("true or false", (bool,)),
}
"""The types of fields: how a message names each, and the types of the values that it is converted from."""


def convert_value(value: Any, hint: Any) -> Any:
    """Return a YAML value or a string of the command line as the type of a field.

    Numbers may be strings: YAML reads 1e-4 as a string, and a command line has only strings.

    Raises:
        ValueError: says what is wanted instead.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if NoneType in args and value in (None, "none", "None", "null"):
            return None
        first, *others = (arg for arg in args if arg is not NoneType)
        if not others or not isinstance(value, (list, tuple)):
            return convert_value(value, first)
        # A field of one string or several: a list of one string is that string.
        items = convert_value(value, others[0])
        return items[0] if len(items) == 1 else items
    if origin is Literal:
        value = "no" if value is False else value  # YAML 1.1 reads a bare no as False
        if value not in args:
            raise ValueError(f"choose one of {', '.join(map(str, args))}")
        return value
    if origin is tuple:
        return _convert_tuple(value, args)
    return _convert_scalar(value, hint)


def _convert_tuple(value: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    items = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):
        raise ValueError("give a list")
    if not items:
        raise ValueError("give one value or more")
    if args[-1] is Ellipsis:
        return tuple(convert_value(item, args[0]) for item in items)
    if len(items) != len(args):
        raise ValueError(f"give {len(args)} values")
    return tuple(convert_value(item, arg) for item, arg in zip(items, args, strict=True))


def _convert_scalar(value: Any, hint: type) -> Any:
    name, accepted = _SCALARS[hint]
    if hint is bool:
        value = {"true": True, "false": False}.get(str(value).lower(), value)
    if isinstance(value, accepted) and isinstance(value, bool) == (hint is bool):
        try:
            return hint(value)
        except ValueError:
            pass
    raise ValueError(f"give {name}")
