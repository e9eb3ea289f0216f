"""The wire format from Python, for tests and fakes: an implementation of its own on top of python3-msgpack.

    frame = wire.pack('session_stop', {'tenant': 'default', 'session_id': 's'}, flags=wire.REQUEST)
    message = wire.unpack(frame)      # .name .flags .correlation .sent_us .body (dict)

Fields that are absent are missing from the dict (or None). Limits are enforced both ways, as in C.
`python3 wire.py golden FILE`, `... bad FILE` and `... seeds DIR` write the test data of tests/unit/proto and tests/fuzz.
"""
import dataclasses
import pathlib
import struct
import sys
import time

import msgpack

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'proto'))
import gen  # noqa: E402  (the schemas are read by the generator's own loader)

VERSION = 1
REQUEST, REPLY = 1, 2
SCHEMA = gen.load((ROOT / 'proto').glob('*.toml'))
NAMES = {m['id']: name for name, m in SCHEMA.messages.items()}
UINT_MAX = {'u32': 2**32 - 1, 'u64': 2**64 - 1}


class WireError(ValueError):
    pass


@dataclasses.dataclass
class Message:
    name: str
    flags: int
    correlation: bytes
    sent_us: int
    body: dict


def _must(ok, f, why):
    if not ok:
        raise WireError(f'{f.where}: {why}')


def _value_out(f, v):
    if f.base in ('str', 'text', 'bin'):
        data = v if f.base == 'bin' else v.encode()
        _must(len(data) <= f.max, f, f'over {f.max} bytes')
        _must(f.base == 'bin' or b'\0' not in data, f, 'NUL')
    elif f.base == 'enum':
        values = SCHEMA.enums[f.ref][0]
        _must(v in values, f, f'no value {v!r}')
        return values.index(v)
    elif f.base == 'struct':
        return _fields_out(SCHEMA.structs[f.ref][0], v)
    elif f.base in UINT_MAX:
        _must(isinstance(v, int) and 0 <= v <= UINT_MAX[f.base], f, 'out of range')
    elif f.base == 'i64':
        _must(-2**63 <= v < 2**63, f, 'out of range')
    elif f.base == 'f64':
        return float(v)
    elif f.base == 'bool':
        return bool(v)
    return v


def _fields_out(fields, msg):
    unknown = set(msg) - {f.name for f in fields}
    if unknown:
        raise WireError(f'unknown fields {sorted(unknown)}')
    out = []
    for f in fields:
        v = msg.get(f.name)
        if f.list:
            v = v or []
            _must(len(v) <= f.list_max, f, f'over {f.list_max} items')
            out.append([_value_out(f, i) for i in v])
        elif v is None:
            _must(f.optional, f, 'missing')
            out.append(None)
        else:
            out.append(_value_out(f, v))
    return out


def frame(name, fields, flags=0, correlation=bytes(16), sent_us=None, version=VERSION):
    """A frame around any body, right or wrong."""
    head = [version, SCHEMA.messages[name]['id'], correlation, sent_us or time.time_ns() // 1000, flags]
    return msgpack.packb(head + [fields], use_bin_type=True)


def pack(name, msg=None, flags=0, correlation=bytes(16), sent_us=None):
    data = frame(name, _fields_out(SCHEMA.messages[name]['fields'], msg or {}), flags, correlation, sent_us)
    if len(data) > SCHEMA.messages[name]['frame_max']:
        raise WireError(f'{name}: frame of {len(data)} bytes')
    return data


def _value_in(f, v):
    kinds = {'str': str, 'text': str, 'bin': bytes, 'bool': bool, 'struct': list, 'f64': (float, int)}
    _must(isinstance(v, kinds.get(f.base, int)) and (f.base == 'bool' or not isinstance(v, bool)), f, 'wrong type')
    if f.base == 'struct':
        return _fields_in(SCHEMA.structs[f.ref][0], v)
    if f.base == 'enum':
        values = SCHEMA.enums[f.ref][0]
        _must(0 <= v < len(values), f, f'no value {v}')
        return values[v]
    _value_out(f, v)
    return v


def _fields_in(fields, values):
    msg = {}
    for i, f in enumerate(fields):
        v = values[i] if i < len(values) else None
        if f.list and v is not None:
            _must(isinstance(v, list) and len(v) <= f.list_max, f, 'not a list within its limit')
            msg[f.name] = [_value_in(f, item) for item in v]
        elif v is not None:
            msg[f.name] = _value_in(f, v)
        else:
            _must(f.optional, f, 'missing')
    return msg


def unpack(data):
    try:
        outer = msgpack.unpackb(data, raw=False, strict_map_key=False)
    except Exception as e:
        raise WireError(f'not msgpack: {e}') from e
    if not isinstance(outer, list) or not outer or outer[0] != VERSION or len(outer) < 6:
        raise WireError('not a frame of this version')
    name = NAMES.get(outer[1])
    if name is None:
        raise WireError(f'unknown message {outer[1]}')
    return Message(name, outer[4], outer[2], outer[3], _fields_in(SCHEMA.messages[name]['fields'], outer[5]))


# --- test data ---------------------------------------------------------------------------------------

SAMPLE_TEXT = 'Grüße, 世界 🚢 '
SENT = 1_795_180_800_000_000


def _sample(f, variant):
    """variant 0: the smallest legal value, 1: a usual one, 2: the largest (big ones cut to 5000 bytes)."""
    if f.base == 'bin':
        return [b'', bytes(range(min(f.max, 200))), b'\xff' * min(f.max, 5000)][variant]
    if f.base in ('str', 'text'):
        usual = SAMPLE_TEXT + f.name
        while len(usual.encode()) > f.max:
            usual = usual[:-1]
        return ['', usual, 'x' * min(f.max, 5000)][variant]
    if f.base in UINT_MAX:
        return [0, 70000, UINT_MAX[f.base]][variant]
    if f.base == 'i64':
        return [-2**63, -1, 2**63 - 1][variant]
    if f.base == 'f64':
        return [0.0, -1.5, 1.7976931348623157e308][variant]
    if f.base == 'bool':
        return bool(variant)
    if f.base == 'enum':
        values = SCHEMA.enums[f.ref][0]
        return [values[0], values[len(values) // 2], values[-1]][variant]
    return _message(SCHEMA.structs[f.ref][0], variant)


def _message(fields, variant):
    msg = {}
    for f in fields:
        if f.list:
            msg[f.name] = [_sample(f, variant)] * [0, 2, min(f.list_max, 20)][variant]
        elif variant > 0 or not f.optional:
            msg[f.name] = _sample(f, variant)
    return msg


def golden():
    """(name, frame) of every message in three sizes."""
    for name, m in sorted(SCHEMA.messages.items(), key=lambda kv: kv[1]['id']):
        for variant in range(3):
            msg = _message(m['fields'], variant)
            data = pack(name, msg, variant % 3, bytes(range(variant, variant + 16)), SENT)
            back = unpack(data).body
            assert {k: v for k, v in back.items() if v is not None} == msg, (name, back, msg)
            yield name, data


def _wrong_values(f):
    """Values that no field of this type may have."""
    wrong = {'str': [1, b'x', [], True, b'\xff'], 'text': [1, b'x', [], -1.0], 'bin': ['x', 1, []],
             'u32': ['1', -1, 2**32, 1.0, True, b''], 'u64': ['1', -1, 1.0, True, []], 'i64': ['1', 2**63, 1.0, False],
             'f64': ['1', True, b''], 'bool': [0, 1, 'true', []], 'enum': ['queued', -1, True, 255, 1.0],
             'struct': [1, 'x', {}, [[]]]}[f.base]
    if f.list:
        wrong = [1, 'x', {}] + [[w] for w in wrong + [None]]
    elif not f.optional:
        wrong = wrong + [None]
    return wrong


def bad():
    """(name, frame): envelopes in order, bodies that must be refused."""
    for name, m in SCHEMA.messages.items():
        good = _fields_out(m['fields'], _message(m['fields'], 1))
        for wrong in (1, 'x', {}, None, {1: 2}):
            yield name, frame(name, wrong, sent_us=SENT)
        for i, f in enumerate(m['fields']):
            for value in _wrong_values(f):
                yield name, frame(name, good[:i] + [value] + good[i + 1:], sent_us=SENT)
            if not all(later.optional for later in m['fields'][i:]):
                yield name, frame(name, good[:i], sent_us=SENT)
            if f.base in ('str', 'text') and not f.list:
                for raw in (b'\xff', b'\xc0\x80', b'\xed\xa0\x80', b'a\0b', b'\xf4\x90\x80\x80'):
                    marker = '@@bad@@' + '#' * len(raw)
                    data = frame(name, good[:i] + [marker] + good[i + 1:], sent_us=SENT)
                    assert data.count(marker.encode()) == 1
                    yield name, data.replace(marker.encode(), b'@@bad@@' + raw)


def _write_records(path, records):
    with open(path, 'wb') as out:
        for _, data in records:
            out.write(struct.pack('<I', len(data)) + data)


def main(argv):
    what, target = argv[1:]
    if what == 'seeds':
        pathlib.Path(target).mkdir(exist_ok=True)
        for i, (name, data) in enumerate(golden()):
            if i % 3 != 2 and len(data) < 4096:
                (pathlib.Path(target) / f'{name}-{i % 3}').write_bytes(data)
    else:
        _write_records(target, {'golden': golden, 'bad': bad}[what]())
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv))
