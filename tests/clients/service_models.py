"""Smallest valid parameters for any operation, taken from botocore's own service models."""

import botocore.session

_session = botocore.session.get_session()

# Patterns that a plain text of the least length does not meet; the server looks at names first, and
# botocore does not check patterns, so this is only for what becomes part of a path.
_NAMED = {
    "tableBucketARN": "arn:aws:s3tables:us-east-1:000000000000:bucket/absent",
    "tableArn": "arn:aws:s3tables:us-east-1:000000000000:bucket/absent/table/0",
    "resourceArn": "arn:aws:s3tables:us-east-1:000000000000:bucket/absent",
    "StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/absent",
    "ResourceARN": "arn:aws:kinesis:us-east-1:000000000000:stream/absent",
    "ConsumerARN": "arn:aws:kinesis:us-east-1:000000000000:stream/absent/consumer/absent:1",
}


def model(service):
    return _session.get_service_model(service)


def method_name(operation):
    """The name of boto3's method."""
    from botocore import xform_name

    return xform_name(operation)


def parameters(service, operation):
    """The required members of an operation's input, each with the least that its shape allows."""
    shape = model(service).operation_model(operation).input_shape
    return {} if shape is None else least(shape)


def least(shape, name="", within=()):
    """A value of a shape: required members only, least lengths, first of an enumeration."""
    kind = shape.type_name
    if name in _NAMED:
        return _NAMED[name]
    if kind == "structure":
        if shape.name in within:
            return {}
        required = list(shape.required_members)
        if getattr(shape, "is_tagged_union", False) and not required:
            required = list(shape.members)[:1]
        inner = (*within, shape.name)
        return {member: least(shape.members[member], member, inner) for member in required}
    if kind == "list":
        return [least(shape.member, within=within)] * max(1, shape.metadata.get("min", 1))
    if kind == "map":
        return {least(shape.key): least(shape.value, within=within)}
    if kind == "string":
        if shape.enum:
            return shape.enum[0]
        return "a" * max(3, shape.metadata.get("min", 3))
    if kind == "boolean":
        return True
    if kind in ("integer", "long"):
        return max(1, shape.metadata.get("min", 1))
    if kind in ("float", "double"):
        return 1.0
    if kind == "timestamp":
        return 0
    if kind == "blob":
        return b"a"
    raise AssertionError(f"{shape.name}: a {kind}")


def leaves(shape, path=()):
    """The paths of all members of a shape that hold no members of their own, lists of structures flat."""
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            yield from leaves(member, (*path, name))
    elif shape.type_name == "list" and shape.member.type_name == "structure":
        yield from leaves(shape.member, path)
    else:
        yield ".".join(path)


def input_leaves(service, operation):
    """The paths of an operation's input."""
    return list(leaves(model(service).operation_model(operation).input_shape))


def shape_at(shape, path):
    """The shape of a member, by its path; of the elements, where it is a list of structures."""
    for name in path.split("."):
        shape = shape.members[name]
        if shape.type_name == "list" and shape.member.type_name == "structure":
            shape = shape.member
    return shape


def set_at(place, shape, path, value):
    """Sets one member by its path; lists of structures on the way have one element."""
    names = path.split(".")
    for name in names[:-1]:
        shape = shape.members[name]
        is_list = shape.type_name == "list"
        place = place.setdefault(name, [{}] if is_list else {})
        if is_list:
            place, shape = place[0], shape.member
    place[names[-1]] = value


def get_at(found, path):
    """One member by its path, as `set_at` sets it; None where something on the way is not there."""
    for name in path.split("."):
        found = found[0] if isinstance(found, list) and found else found
        found = found.get(name) if isinstance(found, dict) else None
    return found


def documented(page, heading):
    """The rows of the first table under a heading of a page of `docs`: name in backticks, what is said of it."""
    import pathlib
    import re

    text = (pathlib.Path(__file__).resolve().parents[2] / "docs" / page).read_text()
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0] if heading else text
    return dict(re.findall(r"^\| `([\w.*]+)` \| (.+) \|$", section, re.MULTILINE))


def row_of(rows, path):
    """The row that covers a path: its own, or one of a beginning of it that ends in `.*`."""
    if path in rows:
        return path
    parts = path.split(".")
    wholes = (".".join(parts[:count]) + ".*" for count in range(1, len(parts)))
    return next((row for row in wholes if row in rows), None)
