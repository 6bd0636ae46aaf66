"""Takes the paths of the machine that trained it out of a sentencepiece model, in place.

  python3 tools/strip_spiece.py FILE...

A model file is a protobuf message: pieces (field 1), the trainer's settings (2), the normalizer's
(3). Of the settings the input files (1) and the name of the output (2) go, of the normalizer's the
file of its rules (6); every other byte stays as it is. Needs nothing but Python.
"""

import sys

PATHS = {2: {1, 2}, 3: {6}}


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def encoded(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def fields(data):
    """(number, begin, begin of the value, end) of each field of a message."""
    at = 0
    while at < len(data):
        begin = at
        key, at = varint(data, at)
        kind = key & 7
        value = at
        if kind == 0:
            _, at = varint(data, at)
        elif kind == 1:
            at += 8
        elif kind == 2:
            size, value = varint(data, at)
            at = value + size
        elif kind == 5:
            at += 4
        else:
            raise ValueError("a field of kind %d at byte %d" % (kind, begin))
        yield key >> 3, begin, value, at


def stripped(data):
    out = bytearray()
    for number, begin, value, end in fields(data):
        gone = PATHS.get(number)
        if not gone:
            out += data[begin:end]
            continue
        part = data[value:end]
        kept = b"".join(part[b:e] for n, b, _, e in fields(part) if n not in gone)
        out += encoded(number << 3 | 2) + encoded(len(kept)) + kept
    return bytes(out)


for path in sys.argv[1:]:
    with open(path, "rb") as f:
        before = f.read()
    after = stripped(before)
    pieces = [[d[b:e] for n, b, _, e in fields(d) if n == 1] for d in (before, after)]
    assert pieces[0] == pieces[1] and stripped(after) == after
    if after != before:
        with open(path, "wb") as f:
            f.write(after)
    print("%s: %d bytes less" % (path, len(before) - len(after)))
