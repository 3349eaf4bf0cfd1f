"""Convert values of a YAML file or a command line to the types of the fields of a recipe."""

from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

_TYPE_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def convert_value(value: Any, hint: Any) -> Any:
    """Return a YAML value or a string of the command line as the type of a field.

    Numbers may be strings: YAML reads 1e-4 as a string, and a command line has only strings.

    Raises:
        ValueError: says what is wanted instead.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if type(None) in args and (value is None or value in ("none", "None", "null")):
            return None
        if str in args and isinstance(value, (list, tuple)):
            # A field of one string or several: a list of one string is that string.
            items = convert_value(value, next(arg for arg in args if get_origin(arg) is tuple))
            return items[0] if len(items) == 1 else items
        return convert_value(value, next(arg for arg in args if arg is not type(None)))
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
    if hint is bool:
        value = {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value
        if isinstance(value, bool):
            return value
        raise ValueError("give true or false")
    if isinstance(value, bool):
        raise ValueError(f"give {_TYPE_NAMES[hint]}")
    if hint is str and isinstance(value, (str, int, float)):
        return str(value)
    if hint is float and isinstance(value, (int, float, str)):
        return _convert_number(value, float)
    if hint is int and isinstance(value, (int, str)):
        return _convert_number(value, int)
    raise ValueError(f"give {_TYPE_NAMES[hint]}")


def _convert_number(value: int | float | str, hint: type[int] | type[float]) -> int | float:
    try:
        return hint(value)
    except ValueError:
        raise ValueError(f"give {_TYPE_NAMES[hint]}") from None
