"""The generator refuses schemas that break a rule, with the place and the reason. Prints TAP."""
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / 'proto'))
import gen  # noqa: E402

GOOD = '''
[enum.colour]
values = ["red", "green"]
[struct.point]
fields = [ { name = "x", type = "u32" } ]
[message.paint]
id = 1
reply = "painted"
fields = [
  { name = "colour", type = "enum:colour", optional = true },
  { name = "points", type = "list:struct:point", max = 3 },
  { name = "names", type = "list:str", max = 3, item_max = 5 },
]
[message.painted]
id = 2
'''
CASES = [  # (what is replaced, by what, what the message says)
    ('id = 2', 'id = 1', 'is taken by paint'),
    ('id = 2', 'id = 65536', 'needs an id'),
    ('id = 2', '', 'needs an id'),
    ('\n[enum.colour]', '\nretired_ids = [2]\n[enum.colour]', 'is taken by a retired message'),
    ('reply = "painted"', 'reply = "drawn"', 'no message drawn'),
    ('reply = "painted"', 'answer = "painted"', 'unknown key'),
    ('enum:colour', 'enum:color', 'no enum color'),
    ('struct:point', 'struct:dot', 'no struct dot'),
    ('type = "u32"', 'type = "u16"', 'unknown type'),
    ('type = "u32"', 'type = "struct:point"', 'nested in itself'),
    ('type = "u32"', 'type = "u32", max = 3', 'limit without meaning'),
    ('type = "u32"', 'type = "str"', 'needs a limit'),
    ('type = "u32"', 'type = "str", max = 0', 'needs a limit'),
    ('type = "u32"', 'type = "u32", size = 3', 'unknown key'),
    ('name = "x"', 'name = "int"', 'bad name'),
    ('name = "x"', 'name = "X"', 'bad name'),
    ('name = "names"', 'name = "points"', 'used twice'),
    ('name = "names"', 'name = "n_points"', 'used twice'),
    ('name = "names"', 'name = "has_colour"', 'used twice'),
    ('max = 3, item_max', 'max = 0, item_max', 'list needs max'),
    ('item_max = 5', 'optional = true, item_max = 5', 'never optional'),
    ('item_max = 5', 'item_max = 60000000', 'may become'),
    ('[struct.point]', '[struct.paint]', 'names used twice'),
    ('[message.painted]', '[message.check]', 'bad name'),
    ('"red", "green"', '"red", "red"', 'different names'),
    ('"red", "green"', '', 'different names'),
    ('"red", "green"', '"red", "max"', 'different names'),
    ('id = 2', 'id = 2\n[message', 'x.toml'),
]


def outcome(text):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / 'x.toml'
        path.write_text(text)
        try:
            schema = gen.load([path])
        except gen.SchemaError as e:
            return str(e)
        return gen.emit_header(schema) + gen.emit_source(schema) + gen.emit_doc(schema)


def main():
    print(f'1..{len(CASES) + 2}')
    bad = 0
    good = outcome(GOOD)
    results = [('a good schema', all(s in good for s in (
        'COLOUR_GREEN', 'bool has_colour;', 'const char **names;', 'size_t n_points;', 'MSG_PAINTED = 0x0002',
        '.list_max = 3', '.reply = &wire_painted', '| colour | enum:colour, optional |')))]
    results += [(f'{old!r} -> {new!r}', GOOD.count(old) >= 1 and want in outcome(GOOD.replace(old, new, 1)))
                for old, new, want in CASES]
    results.append(('two files may not define the same', 'defined twice' in _twice()))
    for i, (name, ok) in enumerate(results, 1):
        bad += not ok
        print(f'{"ok" if ok else "not ok"} {i} - {name.replace(chr(10), " ").replace("#", "")}')
    return 1 if bad else 0


def _twice():
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder) / name for name in ('a.toml', 'b.toml')]
        for path in paths:
            path.write_text('[enum.colour]\nvalues = ["red"]\n')
        try:
            gen.load(paths)
        except gen.SchemaError as e:
            return str(e)
        return ''


if __name__ == '__main__':
    sys.exit(main())
