/**
 * A session's recording: its index as one line of time without its pauses, and frames out of its pieces. Pure but for
 * the browser's gzip. The format is that of workerd/record.h.
 */
export interface PieceInfo { id: string; url: string; started_at: string; ended_at: string; first_seq: number; last_seq: number; width: number; height: number; frames: number; size_bytes: number }
export interface RecordingInfo { started_at: string | null; ended_at: string | null; size_bytes: number; dropped: boolean; pieces: PieceInfo[]; exports?: RecordingExport[] }
/** A video that is made of it. */
export interface RecordingExport { export_id: string; status: 'queued' | 'running' | 'done' | 'failed' | 'cancelled'; percent: number; filename: string; error: string | null; url: string | null }

/** What a pause of the screen, or of the recording, is shortened to. */
const GAP_MS = 800;

interface Span { from: number; to: number; real: number; piece: number }

/** The line of time: pieces one after another, the pauses between them cut short. */
export class Timeline {
  readonly spans: Span[] = [];
  readonly length: number;

  constructor(readonly pieces: PieceInfo[]) {
    let at = 0;
    let before = 0;
    pieces.forEach((p, piece) => {
      const real = Date.parse(p.started_at);
      const long = Math.max(0, Date.parse(p.ended_at) - real);
      if (piece > 0) at += Math.min(GAP_MS, Math.max(0, real - before));
      this.spans.push({ from: at, to: at + long, real, piece });
      at += long;
      before = real + long;
    });
    this.length = at;
  }

  /** The piece to show at that place, and how far into it. */
  at(t: number): { piece: number; ms: number } | null {
    const i = this.spans.findLastIndex((s) => s.from <= t);
    const s = this.spans[Math.max(0, i)];
    return s ? { piece: s.piece, ms: Math.min(Math.max(0, t - s.from), s.to - s.from) } : null;
  }

  /** Where a moment of the clock lies on the line; null when it was before or after all of it. */
  place(real: number): number | null {
    const last = this.spans[this.spans.length - 1];
    if (!last || real < this.spans[0]!.real - 2000 || real > last.real + (last.to - last.from) + 60_000) return null;
    const s = this.spans.findLast((x) => x.real <= real) ?? this.spans[0]!;
    return Math.min(Math.max(s.from, s.from + real - s.real), s.to);
  }

  real(t: number): number {
    const at = this.at(t);
    return at ? this.spans[at.piece]!.real + at.ms : 0;
  }
}

interface Frame { ms: number; seq: number; end: number }

/** One piece, unpacked; draws itself forwards, from its first frame when it must go back. */
export class Piece {
  readonly width: number;
  readonly height: number;
  readonly frames: Frame[] = [];
  private readonly view: DataView;
  private next = 24;
  private drawn = -1;

  constructor(private readonly raw: Uint8Array) {
    this.view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
    if (raw.length < 24 || String.fromCharCode(...raw.subarray(0, 4)) !== 'BREC' || raw[4] !== 1) throw new Error('not a recording');
    this.width = this.view.getUint32(8, true);
    this.height = this.view.getUint32(12, true);
    if (this.width < 1 || this.height < 1 || this.width * this.height > 16 * 1024 * 1024) throw new Error('a recording of an impossible size');
    for (let at = 24; at < raw.length; ) {
      if (raw[at] === 0x52 && at + 9 <= raw.length) {
        const [x, y, w, h] = this.rect(at);
        if (x + w > this.width || y + h > this.height) throw new Error('a recording that draws outside');
        at += 9 + w * h * 3;
      } else if (raw[at] === 0x46 && at + 13 <= raw.length) {
        this.frames.push({ ms: this.view.getUint32(at + 1, true), seq: Number(this.view.getBigUint64(at + 5, true)), end: at + 13 });
        at += 13;
      } else throw new Error('a damaged recording');
    }
    if (this.frames.length === 0 || this.frames[this.frames.length - 1]!.end !== raw.length) throw new Error('a recording that is cut off');
  }

  private rect(at: number): [number, number, number, number] {
    return [this.view.getUint16(at + 1, true), this.view.getUint16(at + 3, true), this.view.getUint16(at + 5, true), this.view.getUint16(at + 7, true)];
  }

  static async load(data: ReadableStream<Uint8Array>): Promise<Piece> {
    const raw = await new Response(data.pipeThrough(new DecompressionStream('gzip') as unknown as TransformStream<Uint8Array, Uint8Array>)).arrayBuffer();
    return new Piece(new Uint8Array(raw));
  }

  /** The seq of the newest event known at that moment. */
  seqAt(ms: number): number {
    return (this.frames.findLast((f) => f.ms <= ms) ?? this.frames[0]!).seq;
  }

  /** Brings `image` (of the piece's size) to that moment; false when nothing had to be drawn. `fresh`: it holds something else. */
  draw(image: ImageData, ms: number, fresh: boolean): boolean {
    let want = this.frames.findLastIndex((f) => f.ms <= ms);
    if (want < 0) want = 0;
    if (!fresh && want === this.drawn) return false;
    if (fresh || want < this.drawn) this.next = 24;
    const end = this.frames[want]!.end;
    const out = image.data;
    while (this.next < end) {
      if (this.raw[this.next] !== 0x52) {
        this.next += 13;
        continue;
      }
      const [x, y, w, h] = this.rect(this.next);
      let from = this.next + 9;
      for (let row = 0; row < h; row++) {
        let to = ((y + row) * this.width + x) * 4;
        for (let i = 0; i < w; i++) {
          out[to] = this.raw[from]!;
          out[to + 1] = this.raw[from + 1]!;
          out[to + 2] = this.raw[from + 2]!;
          out[to + 3] = 255;
          to += 4;
          from += 3;
        }
      }
      this.next = from;
    }
    this.drawn = want;
    return true;
  }
}
