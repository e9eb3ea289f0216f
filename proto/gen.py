#!/usr/bin/env python3
"""Turns proto/*.toml into messages.h, messages.c and messages.md. Usage: gen.py OUTDIR FILE.toml...

load() is also what tests/system/wire.py reads the schemas with, so C and Python share one truth.
A schema that breaks a rule ends the build with one line that says where and why.
"""
import pathlib
import re
import sys
import tomllib

SCALARS = {  # type: (C type, largest size on the wire)
    'str': ('const char *', None),
    'text': ('struct span ', None),
    'bin': ('struct span ', None),
    'u32': ('uint32_t ', 5),
    'u64': ('uint64_t ', 9),
    'i64': ('int64_t ', 9),
    'f64': ('double ', 9),
    'bool': ('bool ', 1),
}
SIZED = ('str', 'text', 'bin')
NAME = re.compile(r'^[a-z][a-z0-9_]{0,39}$')
# Names that would collide with C or with what wire.h declares.
KEYWORDS = set('''auto break case char const continue default do double else enum extern float for goto if inline
    int long register restrict return short signed sizeof static struct switch typedef union unsigned void volatile
    while asm typeof bool true false'''.split())
RESERVED = set('msg msg_by_id struct field flags envelope arena pack open unpack check kind messages'.split())
ENVELOPE_MAX = 1 + 1 + 3 + 18 + 9 + 1     # array head, version, id, correlation, time, flags
APPEND_ROOM = 4096                        # for fields that a newer version of Berth appends
FRAME_LIMIT = 64 << 20                    # no message may be allowed to be larger than this
STRUCT_DEPTH_MAX = 4


class SchemaError(Exception):
    pass


class Field:
    """One field; `base` is the type without list: and without the enum's or struct's name."""

    def __init__(self, where, raw):
        self.where = f'{where}.{raw.get("name")}'
        self.name = raw.get('name', '')
        self.type = raw.get('type', '')
        self.doc = raw.get('doc', '')
        self.optional = raw.get('optional', False)
        parts = self.type.split(':')
        self.list = parts[0] == 'list'
        if self.list:
            parts = parts[1:]
        self.base = parts[0] if parts else ''
        self.ref = parts[1] if len(parts) == 2 else None
        if self.list:
            self.list_max, self.max = raw.get('max'), raw.get('item_max')
        else:
            self.list_max, self.max = 0, raw.get('max')
        self.check(raw, parts)

    def check(self, raw, parts):
        def must(ok, why):
            if not ok:
                raise SchemaError(f'{self.where}: {why}')
        extra = set(raw) - {'name', 'type', 'max', 'item_max', 'optional', 'doc'}
        must(not extra, f'unknown key {sorted(extra)}')
        must(NAME.match(self.name) and self.name not in KEYWORDS, 'bad name')
        must(self.base in SCALARS and len(parts) == 1 or
             self.base in ('enum', 'struct') and len(parts) == 2, f'unknown type {self.type!r}')
        must(isinstance(self.optional, bool), 'optional is true or false')
        must(not (self.list and self.optional), 'a list is never optional: leave it empty')
        if self.list:
            must(isinstance(self.list_max, int) and 0 < self.list_max <= 65535, 'list needs max, 1 to 65535')
        else:
            must('item_max' not in raw, 'item_max is for lists')
        if self.base in SIZED:
            must(isinstance(self.max, int) and 0 < self.max <= FRAME_LIMIT, 'needs a limit in bytes')
        else:
            must(self.max is None, 'limit without meaning')

    def wants_has(self):
        return self.optional and self.base not in SIZED


class Schema:
    def __init__(self):
        self.enums = {}     # name: (values, doc)
        self.structs = {}   # name: (fields, doc)
        self.messages = {}  # name: dict(id, fields, reply, doc, frame_max, file)
        self.retired = set()

    def by_id(self):
        return sorted(self.messages.items(), key=lambda kv: kv[1]['id'])

    def field_size(self, f):
        if f.base in SIZED:
            one = f.max + 5
        elif f.base == 'enum':
            one = 3
        elif f.base == 'struct':
            one = self.fields_size(self.structs[f.ref][0])
        else:
            one = SCALARS[f.base][1]
        return one if not f.list else 3 + f.list_max * one

    def fields_size(self, fields):
        return 3 + sum(self.field_size(f) for f in fields)

    def struct_order(self):
        """Structs such that each comes after those it holds; refuses cycles and deep nesting."""
        order = []

        def visit(name, path):
            if name in path or len(path) >= STRUCT_DEPTH_MAX:
                raise SchemaError(f'struct.{name}: nested in itself or too deep: {" > ".join(path)}')
            if name in order:
                return
            for f in self.structs[name][0]:
                if f.base == 'struct':
                    visit(f.ref, path + [name])
            order.append(name)
        for name in self.structs:
            visit(name, [])
        return order

    def check(self):
        ids = {}
        everything = list(self.enums) + list(self.structs) + list(self.messages)
        if len(everything) != len(set(everything)):
            raise SchemaError(f'names used twice: {sorted({n for n in everything if everything.count(n) > 1})}')
        for name in everything:
            if not NAME.match(name) or name in KEYWORDS or name in RESERVED:
                raise SchemaError(f'{name}: bad name')
        groups = [(n, s[0]) for n, s in self.structs.items()] + [(n, m['fields']) for n, m in self.messages.items()]
        for name, fields in groups:
            names = [m for f in fields for m in ([f.name] + (['n_' + f.name] if f.list else []) +
                                                 (['has_' + f.name] if f.wants_has() else []))]
            if len(names) != len(set(names)):
                raise SchemaError(f'{name}: a field name is used twice')
            for f in fields:
                known = {'enum': self.enums, 'struct': self.structs}.get(f.base)
                if known is not None and f.ref not in known:
                    raise SchemaError(f'{f.where}: no {f.base} {f.ref}')
        self.struct_order()
        for name, m in self.messages.items():
            self.check_message(name, m, ids)

    def check_message(self, name, m, ids):
        if not isinstance(m['id'], int) or not 0 < m['id'] <= 0xffff:
            raise SchemaError(f'message.{name}: needs an id, 1 to 0xffff')
        if m['id'] in ids or m['id'] in self.retired:
            raise SchemaError(f'message.{name}: id {m["id"]:#06x} is taken by {ids.get(m["id"], "a retired message")}')
        ids[m['id']] = name
        if m['reply'] is not None and m['reply'] not in self.messages:
            raise SchemaError(f'message.{name}: no message {m["reply"]} to reply with')
        size = ENVELOPE_MAX + self.fields_size(m['fields']) + APPEND_ROOM
        m['frame_max'] = min(size, m['frame_max'] or size)
        if m['frame_max'] > FRAME_LIMIT:
            raise SchemaError(f'message.{name}: may become {m["frame_max"]} bytes: lower limits or give frame_max')


def load(paths):
    schema = Schema()
    for path in sorted(map(pathlib.Path, paths)):
        try:
            doc = tomllib.loads(path.read_text())
        except tomllib.TOMLDecodeError as e:
            raise SchemaError(f'{path.name}: {e}') from e
        load_file(schema, path.name, doc)
    schema.check()
    return schema


def keys(where, table, allowed):
    extra = set(table) - set(allowed)
    if extra:
        raise SchemaError(f'{where}: unknown key {sorted(extra)}')


def load_file(schema, file, doc):
    def add(table, name, value):
        if name in table:
            raise SchemaError(f'{file}: {name} is defined twice')
        table[name] = value
    keys(file, doc, ('enum', 'struct', 'message', 'retired_ids'))
    schema.retired |= set(doc.get('retired_ids', []))
    for name, e in doc.get('enum', {}).items():
        keys(f'enum.{name}', e, ('values', 'doc'))
        values = e.get('values', [])
        if not values or len(values) > 255 or len(set(values)) != len(values) or \
                any(not NAME.match(v) or v == 'max' for v in values):
            raise SchemaError(f'enum.{name}: values must be 1 to 255 different names')
        add(schema.enums, name, (values, e.get('doc', '')))
    for name, s in doc.get('struct', {}).items():
        keys(f'struct.{name}', s, ('fields', 'doc'))
        if not s.get('fields'):
            raise SchemaError(f'struct.{name}: needs fields')
        add(schema.structs, name, ([Field(name, f) for f in s['fields']], s.get('doc', '')))
    for name, m in doc.get('message', {}).items():
        keys(f'message.{name}', m, ('id', 'fields', 'reply', 'doc', 'frame_max'))
        add(schema.messages, name, {
            'id': m.get('id'), 'fields': [Field(name, f) for f in m.get('fields', [])], 'reply': m.get('reply'),
            'doc': m.get('doc', ''), 'frame_max': m.get('frame_max'), 'file': file})


# --- C ---------------------------------------------------------------------------------------------

def c_type(f):
    if f.base in ('enum', 'struct'):
        return f'{f.base} {f.ref} '
    return SCALARS[f.base][0]


def emit_struct(name, fields, doc, out):
    if doc:
        out.append(f'/* {doc} */')
    out.append(f'struct {name} {{')
    for f in fields:
        note = f' /* {f.doc} */' if f.doc else ''
        if f.list:
            # A list of strings is a list of const char *; items are never written through the list.
            out.append(f'        {c_type(f)}*{f.name};{note}')
            out.append(f'        size_t n_{f.name};')
        else:
            out.append(f'        {c_type(f)}{f.name};{note}')
        if f.wants_has():
            out.append(f'        bool has_{f.name};')
    if not fields:
        out.append('        char nothing; /* the message says it all */')
    out.append('};')
    out.append('')


def emit_header(schema):
    out = ['/* Generated by proto/gen.py: enums, structs and ids of every message between processes. */',
           '#pragma once', '', '#include "proto/wire.h"', '']
    for name, (values, doc) in schema.enums.items():
        up = name.upper()
        if doc:
            out.append(f'/* {doc} */')
        out.append(f'enum {name} {{')
        out += [f'        {up}_{v.upper()},' for v in values]
        out += [f'        {up}_MAX', '};',
                f'const char *{name}_name(enum {name} v); /* "?" when out of range */',
                f'int {name}_parse(const char *s, enum {name} *ret) mustuse; /* -EINVAL */', '']
    for name in schema.struct_order():
        emit_struct(name, *schema.structs[name], out)
    for name, m in schema.by_id():
        emit_struct(name, m['fields'], m['doc'], out)
    out.append('enum wire_msg_id {')
    out += [f'        MSG_{name.upper()} = {m["id"]:#06x},' for name, m in schema.by_id()]
    out += ['};', '']
    out += [f'extern const struct wire_msg wire_{name};' for name, _ in schema.by_id()]
    out += ['', '/* The largest frame of any message, in bytes: what sockets accept at most. */',
            f'#define WIRE_FRAME_MAX {max(m["frame_max"] for m in schema.messages.values())}', '']
    return '\n'.join(out)


def emit_fields(name, fields, out):
    if not fields:
        return
    out.append(f'static const struct wire_field fields_{name}[] = {{')
    for f in fields:
        def off(member, f=f):
            return f'offsetof(struct {name}, {member})'
        row = [f'.name = "{f.name}"', f'.kind = WIRE_{f.base.upper()}', f'.offset = {off(f.name)}']
        if f.list:
            row += ['.list = true', f'.offset_n = {off("n_" + f.name)}', f'.list_max = {f.list_max}']
        if f.optional:
            row.append('.optional = true')
        row.append('.offset_has = ' + (off('has_' + f.name) if f.wants_has() else 'WIRE_NO_OFFSET'))
        if f.base in SIZED:
            row.append(f'.max = {f.max}')
        elif f.base == 'enum':
            row.append(f'.max = {f.ref.upper()}_MAX')
        elif f.base == 'struct':
            row.append(f'.sub = &struct_{f.ref}')
        out.append('        { ' + ', '.join(row) + ' },')
    out += ['};', '']


def struct_init(name, fields):
    table = f'fields_{name}, {len(fields)}' if fields else 'NULL, 0'
    return f'{{ "{name}", {table}, sizeof(struct {name}) }}'


def emit_source(schema):
    out = ['/* Generated by proto/gen.py: the tables that wire.c packs and unpacks by. */',
           '#include "proto/field.h"', '']
    for name, (values, _) in schema.enums.items():
        up = name.upper()
        out += [f'_Static_assert(sizeof(enum {name}) == sizeof(uint32_t), "enums are stored as 32 bits");',
                f'static const char *const names_{name}[] = {{']
        out += [f'        [{up}_{v.upper()}] = "{v}",' for v in values]
        out += ['};', '',
                f'const char *{name}_name(enum {name} v)', '{',
                f'        return (unsigned) v < {up}_MAX ? names_{name}[v] : "?";', '}', '',
                f'int {name}_parse(const char *s, enum {name} *ret)', '{',
                f'        for (unsigned i = 0; s && i < {up}_MAX; i++)',
                f'                if (strcmp(s, names_{name}[i]) == 0) {{',
                f'                        *ret = (enum {name}) i;',
                '                        return 0;', '                }',
                '        return -EINVAL;', '}', '']
    for name in schema.struct_order():
        emit_fields(name, schema.structs[name][0], out)
        out += [f'static const struct wire_struct struct_{name} = {struct_init(name, schema.structs[name][0])};', '']
    for name, m in schema.by_id():
        emit_fields(name, m['fields'], out)
        reply = f'&wire_{m["reply"]}' if m['reply'] else 'NULL'
        out += [f'const struct wire_msg wire_{name} = {{',
                f'        .body = {struct_init(name, m["fields"])},',
                f'        .id = MSG_{name.upper()}, .reply = {reply}, .frame_max = {m["frame_max"]},', '};', '']
    out.append('const struct wire_msg *const wire_messages[] = {')
    out += [f'        &wire_{name},' for name, _ in schema.by_id()]
    out += ['};', 'const size_t wire_n_messages = ARRAY_LEN(wire_messages);', '']
    return '\n'.join(out)


# --- documentation ---------------------------------------------------------------------------------

def doc_rows(fields):
    rows = ['| field | type | limit | |', '| --- | --- | --- | --- |']
    for f in fields:
        limit = str(f.max or '') if not f.list else f'{f.list_max} items' + (f' of {f.max}' if f.max else '')
        rows.append(f'| {f.name} | {f.type}{", optional" if f.optional else ""} | {limit} | {f.doc} |')
    return rows


def emit_doc(schema):
    out = ['# Messages between the processes', '', 'Generated from proto/*.toml.', '']
    for file in sorted({m['file'] for m in schema.messages.values()}):
        out += [f'## {file}', '']
        for name, m in schema.by_id():
            if m['file'] != file:
                continue
            out += [f'### {name} ({m["id"]:#06x}, at most {m["frame_max"]} bytes)', '']
            out += [m['doc'], ''] if m['doc'] else []
            out += [f'Reply: {m["reply"]}.', ''] if m['reply'] else []
            out += doc_rows(m['fields']) + [''] if m['fields'] else []
    out += ['## Structs', '']
    for name, (fields, doc) in schema.structs.items():
        out += [f'### {name}', '', doc, ''] + doc_rows(fields) + ['']
    out += ['## Enums', '']
    for name, (values, doc) in schema.enums.items():
        out += [f'- **{name}**: ' + ', '.join(f'{i} {v}' for i, v in enumerate(values)) + (f'. {doc}' if doc else '')]
    return '\n'.join(out) + '\n'


def main(argv):
    if len(argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    outdir = pathlib.Path(argv[1])
    try:
        schema = load(argv[2:])
    except SchemaError as e:
        print(f'proto: {e}', file=sys.stderr)
        return 1
    (outdir / 'messages.h').write_text(emit_header(schema))
    (outdir / 'messages.c').write_text(emit_source(schema))
    (outdir / 'messages.md').write_text(emit_doc(schema))
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv))
