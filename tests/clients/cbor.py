"""CBOR, as much of it as the AWS SDK for Java writes and reads: maps and lists of indefinite length,
byte strings, and times as milliseconds under tag 1."""

import struct


class Time(int):
    """Milliseconds since the epoch."""


def _head(major, number):
    if number < 24:
        return bytes([major << 5 | number])
    for code, form in ((24, ">B"), (25, ">H"), (26, ">I"), (27, ">Q")):
        if number < 1 << 8 * struct.calcsize(form):
            return bytes([major << 5 | code]) + struct.pack(form, number)
    raise ValueError(number)


def dumps(value):
    if value is None:
        return b"\xf6"
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, Time):
        return b"\xc1" + _head(0, int(value))
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        return _head(3, len(value.encode())) + value.encode()
    if isinstance(value, (list, tuple)):
        return b"\x9f" + b"".join(map(dumps, value)) + b"\xff"
    if isinstance(value, dict):
        return b"\xbf" + b"".join(dumps(key) + dumps(item) for key, item in value.items()) + b"\xff"
    raise TypeError(type(value))


class _Break(Exception):
    pass


def loads(data):
    value, rest = _read(data)
    assert not rest, f"{len(rest)} bytes follow the value"
    return value


def _read(data):
    major, info, data = data[0] >> 5, data[0] & 31, data[1:]
    if major == 7:
        if info == 31:
            raise _Break
        if info == 27:
            return struct.unpack(">d", data[:8])[0], data[8:]
        return {20: False, 21: True, 22: None}[info], data
    if info == 31:
        return _indefinite(major, data)
    if info < 24:
        number = info
    else:
        form = {24: ">B", 25: ">H", 26: ">I", 27: ">Q"}[info]
        size = struct.calcsize(form)
        number, data = struct.unpack(form, data[:size])[0], data[size:]
    if major == 0:
        return number, data
    if major == 1:
        return -1 - number, data
    if major == 2:
        return data[:number], data[number:]
    if major == 3:
        return data[:number].decode(), data[number:]
    if major == 6:
        assert number == 1, f"tag {number}"
        value, data = _read(data)
        return Time(value), data
    items = []
    for _ in range(number * (2 if major == 5 else 1)):
        item, data = _read(data)
        items.append(item)
    return (dict(zip(items[::2], items[1::2])) if major == 5 else items), data


def _indefinite(major, data):
    items = []
    while data[0] != 0xFF:
        item, data = _read(data)
        items.append(item)
    data = data[1:]
    if major in (2, 3):
        return (b"" if major == 2 else "").join(items), data
    return (dict(zip(items[::2], items[1::2])) if major == 5 else items), data
