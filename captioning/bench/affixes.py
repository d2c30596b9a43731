"""Text in front of captions and at their end. Adding twice is adding once; removing removes every repetition."""

from __future__ import annotations


def with_prefix(line: str, prefix: str) -> str:
    """The line with `prefix` in front; as it is where it begins with it already."""
    prefix, body = prefix.lstrip(), line.strip()
    if body == prefix.strip() or body.startswith(prefix):
        return line
    return (prefix + body).strip()


def without_prefix(line: str, prefix: str) -> str:
    prefix, body = prefix.lstrip(), line.strip()
    if not (body == prefix.strip() or body.startswith(prefix)):
        return line
    while body.startswith(prefix):
        body = body[len(prefix) :].lstrip()
    return "" if body == prefix.strip() else body


def with_suffix(line: str, suffix: str, separator: str) -> str:
    """The line with `suffix` behind; as it is where it ends with it. An empty line gets it without its separator."""
    suffix, body = suffix.rstrip(), line.strip()
    alone = _alone(suffix, separator)
    if body == alone or body.endswith(suffix):
        return line
    return body + suffix if body else alone


def without_suffix(line: str, suffix: str, separator: str) -> str:
    suffix, body = suffix.rstrip(), line.strip()
    alone = _alone(suffix, separator)
    if not (body == alone or body.endswith(suffix)):
        return line
    while body.endswith(suffix):
        body = body[: -len(suffix)].rstrip()
    return "" if body == alone else body


def _alone(suffix: str, separator: str) -> str:
    return suffix.strip().removeprefix(separator.strip()).strip() or suffix.strip()
