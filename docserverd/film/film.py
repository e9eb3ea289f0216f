"""Makes a video of a recording: film.py webm|mp4 WIDTH HEIGHT BYTES, in a slot.

Standard input: the pieces of the recording (workerd/record.h), each behind its length (u64, little-endian). The video of that size
is left as video.FORMAT; pauses of the screen are cut short. What goes wrong is one sentence on standard error and status 1.
ffmpeg is given plain pixels only."""
import os
import struct
import subprocess
import sys
import zlib

RATE = 10  # frames a second
GAP = 1.0  # seconds that a picture stays at most
RAW_MAX = 80 << 20  # a piece has 16 MiB and one frame more
CODECS = {
    "mp4": ["-c:v", "libx264", "-preset", "veryfast", "-crf", "28", "-pix_fmt", "yuv420p", "-movflags", "+faststart"],
    "webm": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-row-mt", "1", "-crf", "36", "-b:v", "0", "-pix_fmt", "yuv420p"],
}


class Problem(Exception):
    """What a person is told."""


def pieces(stream):
    while head := stream.read(8):
        if len(head) < 8:
            raise Problem("the recording was cut off")
        (size,) = struct.unpack("<Q", head)
        data = stream.read(min(size, RAW_MAX))
        if len(data) < size:
            raise Problem("the recording was cut off")
        yield data


def unpack(data):
    z = zlib.decompressobj(31)
    raw = z.decompress(data, RAW_MAX)
    if not z.eof or len(raw) < 24:
        raise ValueError("damaged")
    magic, width, height, started = struct.unpack_from("<8sIIQ", raw)
    if magic != b"BREC\1\0\0\0" or not 0 < width * height <= 16 << 20:
        raise ValueError("not a piece")
    return memoryview(raw), width, height, started / 1e6


def frames(raw, width, height):
    """(milliseconds, [(x, y, width, height, where its pixels begin)]) of each frame."""
    at, rects = 24, []
    while at < len(raw):
        if raw[at] == 0x52 and at + 9 <= len(raw):
            x, y, w, h = struct.unpack_from("<HHHH", raw, at + 1)
            at += 9
            if x + w > width or y + h > height or at + w * h * 3 > len(raw):
                raise ValueError("draws outside")
            rects.append((x, y, w, h, at))
            at += w * h * 3
        elif raw[at] == 0x46 and at + 13 <= len(raw):
            yield struct.unpack_from("<I", raw, at + 1)[0], rects
            at, rects = at + 13, []
        else:
            raise ValueError("damaged")


class Film:
    """The picture as it is now, and an encoder that gets it as often as it was seen."""

    def __init__(self, kind, width, height, limit):
        self.width, self.height = width + 1 & ~1, height + 1 & ~1
        self.canvas = bytearray(self.width * self.height * 3)
        self.out, self.limit = f"video.{kind}", limit
        self.before, self.clock, self.written = None, 0.0, 0
        self.encoder = subprocess.Popen(
            ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{self.width}x{self.height}", "-r", str(RATE),
             "-i", "pipe:0", *CODECS[kind], self.out], stdin=subprocess.PIPE)

    def put(self):
        self.encoder.stdin.write(self.canvas)
        self.written += 1
        if self.written % 50 == 0 and os.path.exists(self.out) and os.path.getsize(self.out) > self.limit:
            raise Problem("the video would be larger than export_max allows")

    def until(self, now):
        """What is on the canvas was to be seen until then."""
        if self.before is not None:
            self.clock += min(max(0.0, now - self.before), GAP)
            while self.written < int(self.clock * RATE):
                self.put()
        self.before = now

    def piece(self, data):
        raw, width, height, started = unpack(data)
        if width > self.width or height > self.height:
            raise ValueError("larger than it was said to be")
        stride, first = self.width * 3, True
        for ms, rects in frames(raw, width, height):
            self.until(started + ms / 1e3)
            if first:
                self.canvas[:] = bytes(len(self.canvas))  # the picture before may have been larger
                first = False
            for x, y, w, h, at in rects:
                for row in range(y, y + h):
                    to = row * stride + x * 3
                    self.canvas[to:to + w * 3] = raw[at:at + w * 3]
                    at += w * 3

    def end(self):
        for _ in range(RATE):
            self.put()
        self.encoder.stdin.close()
        if self.encoder.wait() != 0:
            raise Problem(f"ffmpeg ended with status {self.encoder.returncode}")
        if os.path.getsize(self.out) > self.limit:
            raise Problem("the video would be larger than export_max allows")


def main():
    kind, width, height, limit = sys.argv[1], *map(int, sys.argv[2:5])
    try:
        film = Film(kind, width, height, limit)
    except FileNotFoundError:
        raise Problem("the image of the worker that serves jobs has no ffmpeg; build it again (berthctl image build desktop)") from None
    seen = bad = 0
    try:
        for data in pieces(sys.stdin.buffer):
            seen += 1
            try:
                film.piece(data)
            except (ValueError, struct.error, zlib.error):
                bad += 1  # what of it was whole has been drawn; the next piece begins with a whole picture
        if seen == bad:
            raise Problem("nothing is left of the recording" if seen == 0 else "the recording is damaged")
        film.end()
    except BrokenPipeError:
        film.encoder.wait()
        raise Problem(f"ffmpeg ended with status {film.encoder.returncode}") from None


try:
    main()
except Problem as problem:
    sys.exit(str(problem))
