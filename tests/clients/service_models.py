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
