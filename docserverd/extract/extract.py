#!/usr/bin/env python3
"""Reads the text out of a document, inside a slot: extract.py FILE NAME TYPE MAX_BYTES

Writes {"status": "text"|"none", "text"?, "why"?, "truncated"?}; a form feed ends a page. Its limits of time and memory
are those of the job; what it is given may be hostile and may take over this process: the slot is made for that.
PDF is read by pdftotext, spreadsheets by openpyxl, the rest by Python's own parsers of ZIP, XML and HTML. Its expat neither
fetches external entities nor expands them without end; parts of archives are read up to a limit, whatever they claim.
"""
import html.parser
import io
import json
import re
import subprocess
import sys
import xml.parsers.expat
import zipfile

PART_MAX = 64 << 20       # bytes of one part of an archive
ROWS_MAX = 200_000        # of a spreadsheet
SNIFF = 4096


class Unreadable(Exception):
    """There is no text to be had; the text says why."""


class Enough(Exception):
    """As much text as is wanted."""


class Out:
    """Text up to a number of bytes."""

    def __init__(self, limit):
        self.parts, self.room, self.cut = [], limit, False

    def add(self, text):
        size = len(text.encode("utf-8", "replace"))
        if size > self.room:
            self.parts.append(text.encode("utf-8", "replace")[:self.room].decode("utf-8", "ignore"))
            self.room, self.cut = 0, True
            raise Enough
        self.parts.append(text)
        self.room -= size


# --- plain text

def decode(data):
    """Bytes as text: by byte order mark, as UTF-8, as UTF-16 when every other byte is zero, else as Windows-1252."""
    for mark, name in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"),
                       (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(name, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        if len(data) - e.start < 4 and e.end == len(data):
            return data[:e.start].decode("utf-8")   # cut in the middle of a character
    head = data[:SNIFF]
    for at, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(head) >= 8 and head[at::2].count(0) * 10 > len(head[at::2]) * 8:
            return data.decode(name, "replace")
    return data.decode("cp1252", "replace")


def is_binary(head):
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return False
    odd, even = head[1::2].count(0), head[0::2].count(0)
    if len(head) >= 8 and max(odd, even) * 10 > len(head) // 2 * 8 and min(odd, even) == 0:
        return False                                # UTF-16 without a mark
    control = sum(1 for b in head if b < 32 and b not in (9, 10, 12, 13, 27))
    try:
        head.decode("utf-8")
        return control * 10 > len(head)
    except UnicodeDecodeError:
        return control * 50 > len(head)


def plain(path, out):
    with open(path, "rb") as f:
        data = f.read(out.room + 4)
        if is_binary(data[:SNIFF]):
            raise Unreadable("it is not a kind of file that can be read")
        out.add(decode(data))


# --- HTML

class Html(html.parser.HTMLParser):
    HIDDEN = {"script", "style", "template", "noscript", "head", "math", "object", "iframe"}
    BREAKS = {"p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "section", "article", "table", "ul", "ol", "pre",
              "blockquote", "dd", "dt", "td", "th", "title", "hr", "header", "footer", "main", "nav", "figcaption", "option"}
    VOID = {"br", "hr", "img", "input", "meta", "link", "wbr", "col", "area", "base", "embed", "source", "track"}

    def __init__(self, out):
        super().__init__(convert_charrefs=True)
        self.out, self.hidden, self.title = out, [], False

    def handle_starttag(self, tag, attrs):
        if tag == "title":
            self.title = True
        if tag == "body":
            self.hidden.clear()                     # whatever was left open before
        if tag in self.HIDDEN:
            self.hidden.append(tag)
        if tag in self.BREAKS:
            self.out.add("\n")
        if tag == "img":
            alt = dict(attrs).get("alt")
            if alt and not self.hidden:
                self.out.add(f" {alt} ")

    def handle_startendtag(self, tag, attrs):
        if tag in self.VOID:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        if tag == "title":
            self.title = False
        if tag in self.hidden:
            del self.hidden[self.hidden.index(tag):]
        if tag in self.BREAKS:
            self.out.add("\n")

    def handle_data(self, data):
        if not self.hidden or self.title:
            self.out.add(re.sub(r"[ \t\r\n]+", " ", data))


def page(data, out):
    text = decode(data)
    m = re.search(rb"""<meta[^>]{0,200}charset=["']?([A-Za-z0-9_-]{1,40})""", data[:SNIFF])
    if m and not data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        try:
            text = data.decode(m[1].decode(), "replace")
        except LookupError:
            pass
    parser = Html(out)
    parser.feed(text)
    parser.close()


def web_page(path, out):
    with open(path, "rb") as f:
        page(f.read(PART_MAX), out)


# --- archives of XML

def part(archive, name):
    """Bytes of a part, at most PART_MAX, whatever its header says."""
    with archive.open(name) as f:
        data = f.read(PART_MAX + 1)
    if len(data) > PART_MAX:
        raise Unreadable("a part of it is too large")
    return data


def walk(data, start, end, text):
    """Calls start(tag, attributes), end(tag), text(string) with names without their namespace."""
    parser = xml.parsers.expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    # Internal entities are of no use in these formats; without declarations nothing can be expanded.
    def no_entity(*_):
        raise Unreadable("its XML declares entities")
    parser.EntityDeclHandler = no_entity
    parser.StartElementHandler = lambda tag, attrs: start(tag.rsplit(" ", 1)[-1], attrs)
    parser.EndElementHandler = lambda tag: end(tag.rsplit(" ", 1)[-1])
    parser.CharacterDataHandler = text
    parser.Parse(data, True)


def words(data, out, keep, breaks, gaps=frozenset()):
    """Text inside the elements `keep` (empty: all); a line ends with each of `breaks`."""
    depth = [0]

    def start(tag, attrs):
        depth[0] += tag in keep
        if tag in gaps:
            out.add("\n" if tag in ("br", "line-break") else " ")

    def end(tag):
        depth[0] -= tag in keep
        if tag in breaks:
            out.add("\n")

    walk(data, start, end, lambda s: out.add(s) if depth[0] or not keep else None)


def ordered(names, pattern):
    found = [(int(m[1] or 0), n) for n in names if (m := re.fullmatch(pattern, n))]
    return [n for _, n in sorted(found)]


def docx(archive, out):
    names = archive.namelist()
    for name in ["word/document.xml", *ordered(names, r"word/(?:header|footer)(\d*)\.xml"),
                 *[n for n in ("word/footnotes.xml", "word/endnotes.xml", "word/comments.xml") if n in names]]:
        words(part(archive, name), out, {"t"}, {"p", "tr"}, {"tab", "br", "cr"})
        out.add("\n\n")


def pptx(archive, out):
    names = archive.namelist()
    for at, name in enumerate(ordered(names, r"ppt/slides/slide(\d+)\.xml")):
        if at:
            out.add("\f")
        words(part(archive, name), out, {"t"}, {"p"}, {"tab", "br"})
        notes = name.replace("slides/slide", "notesSlides/notesSlide")
        if notes in names:
            words(part(archive, notes), out, {"t"}, {"p"}, {"tab", "br"})


def opendocument(archive, out):
    words(part(archive, "content.xml"), out, {"body"}, {"p", "h", "table-row", "list-item", "page"}, {"s", "tab", "line-break"})


def epub(archive, out):
    for at, name in enumerate(n for n in archive.namelist() if re.search(r"\.x?html?$", n)):
        if at:
            out.add("\n\n")
        page(part(archive, name), out)


def xlsx(path, out):
    import openpyxl
    with open(path, "rb") as f:                     # by name it would want a certain suffix
        xlsx_rows(openpyxl.load_workbook(f, read_only=True, data_only=True), out)


def xlsx_rows(book, out):
    rows = 0
    for at, sheet in enumerate(book.worksheets):
        out.add(("\f" if at else "") + sheet.title + "\n")
        for row in sheet.iter_rows(values_only=True):
            rows += 1
            if rows > ROWS_MAX:
                raise Enough
            line = "\t".join(str(v) for v in row if v is not None)
            if line:
                out.add(line + "\n")


def check_archive(path):
    """Sum of what the parts claim: a bomb is refused before anything is unpacked."""
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if len(infos) > 20_000 or sum(i.file_size for i in infos) > 16 * PART_MAX:
            raise Unreadable("it unpacks to too much")
        return {i.filename for i in infos}


def archive(path, out):
    names = check_archive(path)
    if "xl/workbook.xml" in names:
        return xlsx(path, out)
    with zipfile.ZipFile(path) as z:
        if "word/document.xml" in names:
            return docx(z, out)
        if any(n.startswith("ppt/slides/slide") for n in names):
            return pptx(z, out)
        kind = part(z, "mimetype").decode("ascii", "replace") if "mimetype" in names else ""
        if kind.startswith("application/vnd.oasis.opendocument"):
            return opendocument(z, out)
        if kind.startswith("application/epub"):
            return epub(z, out)
    raise Unreadable("archives are not read")


# --- PDF

def pdf(path, out):
    with subprocess.Popen(["pdftotext", "-enc", "UTF-8", "-q", path, "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
        data = p.stdout.read(out.room + 4)
        if len(data) > out.room:
            p.kill()
        said = p.stderr.read(2000).decode("utf-8", "replace")
        code = p.wait()
    if code not in (0, -9) and not data.strip():
        raise Unreadable("it is locked with a password" if "password" in said.lower() else "it is damaged")
    if not data.strip():
        raise Unreadable("it has no text, only pictures of it")
    out.add(data.decode("utf-8", "replace"))


def rtf(path, out):
    """Control words away, hexadecimal and Unicode characters as themselves."""
    with open(path, "rb") as f:
        text = f.read(PART_MAX).decode("latin-1")
    skip, depth, hidden = re.compile(r"\\([a-z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-f]{2})|\\(.)|([{}])|[\r\n]+|([^\\{}\r\n]+)", re.S), 0, []
    for m in skip.finditer(text):
        word, number, byte, symbol, brace, run = m.groups()
        if brace == "{":
            depth += 1
        elif brace == "}":
            depth -= 1
            if hidden and depth < hidden[-1]:
                hidden.pop()
        elif symbol == "*" or word in ("fonttbl", "colortbl", "stylesheet", "info", "pict", "object", "themedata", "datastore"):
            hidden.append(depth)
        elif hidden:
            continue
        elif word in ("par", "line", "row", "page", "sect"):
            out.add("\n")
        elif word in ("tab", "cell"):
            out.add("\t")
        elif word == "u" and number:
            out.add(chr(int(number) % 65536) if not 0xd800 <= int(number) % 65536 < 0xe000 else " ")
        elif byte:
            out.add(bytes([int(byte, 16)]).decode("cp1252", "replace"))
        elif symbol in ("\\", "{", "}"):
            out.add(symbol)
        elif run:
            out.add(run)


def read(path, name, kind, out):
    with open(path, "rb") as f:
        head = f.read(SNIFF)
    kind, suffix = kind.split(";")[0].strip().lower(), name.lower().rsplit(".", 1)[-1]
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:200].lower()
    if b"%PDF-" in head[:1024]:
        pdf(path, out)
    elif head.startswith(b"PK"):
        archive(path, out)
    elif head.startswith(b"{\\rtf"):
        rtf(path, out)
    elif head.startswith(b"\xd0\xcf\x11\xe0"):
        raise Unreadable("old binary Office files are not read; save it as docx, xlsx or pptx")
    elif kind in ("text/html", "application/xhtml+xml", "image/svg+xml") or suffix in ("html", "htm", "xhtml", "svg") \
            or start.startswith((b"<!doctype html", b"<html")):
        web_page(path, out)
    else:
        plain(path, out)


def main(path, name, kind, limit):
    out, said = Out(int(limit)), {}
    try:
        try:
            read(path, name, kind, out)
        except Enough:
            out.cut = True
        said = {"status": "text", "text": "".join(out.parts).replace("\0", " "), "truncated": out.cut}
    except Unreadable as e:
        said = {"status": "none", "why": str(e)}
    except (zipfile.BadZipFile, xml.parsers.expat.ExpatError, KeyError, NotImplementedError, RuntimeError, EOFError, ValueError):
        said = {"status": "none", "why": "it is damaged or locked"}
    sys.stdout.write(json.dumps(said, ensure_ascii=True))


if __name__ == "__main__":
    sys.setrecursionlimit(2000)
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, "ascii")
    main(*sys.argv[1:])
