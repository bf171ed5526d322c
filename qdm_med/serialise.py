"""Frozen dataclasses from plain mappings and back, for configuration files and checkpoint metadata.

What is misspelt or of another type is refused by name, never ignored: a configuration that is half understood trains
another network than the one it describes.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, overload

from qdm_med.errors import ConfigError

Record = TypeVar("Record")


@overload
def from_mapping(cls: type[Record], values: Mapping[str, Any], *, where: str = "") -> Record: ...


@overload
def from_mapping(cls: types.UnionType, values: Mapping[str, Any], *, where: str = "") -> Any: ...


def from_mapping(cls: Any, values: Mapping[str, Any], *, where: str = "") -> Any:
    """Build ``cls`` from a mapping, nested dataclasses included.

    Args:
        cls: A dataclass, whose missing fields take their defaults, or a union of some, of which ``kind`` names one; a
            mapping without ``kind`` is the one that has none, if there is one.
        values: As read from YAML or JSON; lists become tuples.
        where: Place of the mapping in its file, for messages.

    Raises:
        ConfigError: If a key is unknown or a value has another type than its field.
    """
    if isinstance(cls, types.UnionType):
        return _convert_union(get_args(cls), values, where or " | ".join(option.__name__ for option in get_args(cls)))
    where = where or cls.__name__
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected a mapping, got {values!r}")
    values = _without_own_kind(cls, values)
    known = {field.name for field in fields(cls) if field.init}
    if unknown := sorted(str(key) for key in values.keys() - known):
        raise ConfigError(f"{where}: unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    hints = get_type_hints(cls)
    read = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    try:
        return cls(**read)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from None


def _without_own_kind(cls: Any, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Drop a ``kind`` that only repeats what the field is anyway, as :func:`to_mapping` writes it."""
    if not hasattr(cls, "kind") or values.get("kind") != cls.kind:
        return values
    return {key: value for key, value in values.items() if key != "kind"}


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Convert one value to the type of its field."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(get_args(hint), value, where)
    if origin is Literal:
        return _checked(value, value in get_args(hint), f"one of {', '.join(map(str, get_args(hint)))}", where)
    if origin is tuple:
        return _convert_tuple(get_args(hint), value, where)
    if is_dataclass(hint):
        return from_mapping(hint, value, where=where)  # type: ignore[arg-type]  # is_dataclass narrows to instances too
    if hint is float:
        good = isinstance(value, int | float) and not isinstance(value, bool)
        return float(_checked(value, good, "a number", where))
    if hint is int:
        return _checked(value, isinstance(value, int) and not isinstance(value, bool), "a whole number", where)
    if hint in (str, bool):
        return _checked(value, isinstance(value, hint), f"of type {hint.__name__}", where)
    return value


def _convert_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    """Convert to one type of a union: ``None``, the dataclass whose ``kind`` the mapping names, or the only other type."""
    if value is None and type(None) in options:
        return None
    others = [option for option in options if option is not type(None)]
    if len(others) == 1:
        return _convert(others[0], value, where)
    kinds = {getattr(option, "kind", None): option for option in others}
    rest = dict(value) if isinstance(value, Mapping) else {}
    kind = rest.pop("kind", None)
    _checked(kind, kind in kinds, f"one of {', '.join(sorted(filter(None, kinds)))}", f"{where}.kind")
    return from_mapping(kinds[kind], rest, where=where)


def _convert_tuple(items: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    _checked(value, isinstance(value, list | tuple), "a list", where)
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(_convert(items[0], item, where) for item in value)
    _checked(value, len(items) == len(value), f"a list of {len(items)}", where)
    return tuple(_convert(hint, item, where) for hint, item in zip(items, value, strict=True))


def _checked(value: Any, good: bool, rule: str, where: str) -> Any:
    if not good:
        raise ConfigError(f"{where}: must be {rule}, got {value!r}")
    return value


def to_mapping(record: Any) -> Any:
    """Describe a dataclass in JSON types; the ``kind`` of a record that has one goes along."""
    if is_dataclass(record):
        kind = {"kind": record.kind} if hasattr(record, "kind") else {}
        return kind | {field.name: to_mapping(getattr(record, field.name)) for field in fields(record)}
    if isinstance(record, tuple | list):
        return [to_mapping(item) for item in record]
    if isinstance(record, Mapping):
        return {key: to_mapping(value) for key, value in record.items()}
    return record
