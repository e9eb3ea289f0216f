/** A session's desktop as it was: a player whose bar carries the session's steps. */
import { signal } from '@preact/signals';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { getJson, request } from '../lib/api';
import { clock } from '../lib/format';
import { describe } from '../model/describe';
import { Piece, Timeline, type RecordingInfo } from '../model/recording';
import type { ToolItem } from '../model/transcript';
import type { SessionStream } from '../state/stream';
import { texts } from '../texts';
import { IconButton, Spinner } from '../ui/controls';
import { Icon } from '../ui/icons';
import { ExportButton } from './replay-export';

/** The moment the open recording shows, in ms of the clock; null while none is open. Steps and timeline mark what was done then. */
export const replayAt = signal<number | null>(null);

/** Moves the open recording, if there is one, to a moment of the clock. */
export function replayTo(iso: string): void {
  if (replayAt.value !== null) document.dispatchEvent(new CustomEvent('berth:moment', { detail: Date.parse(iso) }));
}

const SPEEDS = [1, 2, 4, 8];
/** Pieces kept unpacked: the one shown, its neighbours. */
const KEEP = 3;

export function useRecording(id: string, on: boolean): RecordingInfo | null {
  const [info, setInfo] = useState<RecordingInfo | null>(null);
  useEffect(() => {
    if (!on) return undefined;
    let go = true;
    getJson<RecordingInfo>(`/sessions/${encodeURIComponent(id)}/recording`).then((r) => go && setInfo(r), () => go && setInfo(null));
    return () => {
      go = false;
    };
  }, [id, on]);
  return info;
}

/** Pieces by number, unpacked once, a few at a time. */
function usePieces(line: Timeline) {
  return useMemo(() => {
    const held = new Map<number, Promise<Piece>>();
    return (n: number): Promise<Piece> => {
      const known = held.get(n);
      if (known) {
        held.delete(n);
        held.set(n, known);
        return known;
      }
      const piece = request(line.pieces[n]!.url, { headers: { Accept: 'application/gzip' } }).then((r) => Piece.load(r.body!));
      piece.catch(() => held.delete(n));
      held.set(n, piece);
      while (held.size > KEEP) held.delete(held.keys().next().value!);
      return piece;
    };
  }, [line]);
}

const time = (ms: number): string => {
  const s = Math.floor(ms / 1000);
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')}`;
};

export function Replay({ id, info, stream }: { id: string; info: RecordingInfo; stream: SessionStream }) {
  const t = texts.replay;
  const line = useMemo(() => new Timeline(info.pieces), [info]);
  const piece = usePieces(line);
  const canvas = useRef<HTMLCanvasElement>(null);
  const shown = useRef<{ image: ImageData; piece: Piece } | null>(null);
  const [at, setAt] = useState(0);
  const [playing, setPlaying] = useState(false);
  const [speed, setSpeed] = useState(1);
  const [loading, setLoading] = useState(true);
  const [bad, setBad] = useState(false);
  const tools = stream.items.value.filter((i): i is ToolItem => i.kind === 'tool');
  const marks = useMemo(
    () => tools.map((i) => ({ key: i.key, at: line.place(Date.parse(i.at)), title: `${clock(i.at)} ${describe(i.name, i.input, false).title}`, failed: i.state === 'failed' })).filter((m): m is typeof m & { at: number } => m.at !== null),
    [tools.length, line],
  );

  // The picture of that moment, as soon as its piece is there.
  useEffect(() => {
    const where = line.at(at);
    if (!where) return undefined;
    let go = true;
    const late = window.setTimeout(() => go && setLoading(true), 120);
    piece(where.piece)
      .then((p) => {
        const c = canvas.current;
        if (!go || !c) return;
        const fresh = shown.current?.piece !== p;
        if (fresh) {
          if (c.width !== p.width || c.height !== p.height) {
            c.width = p.width;
            c.height = p.height;
          }
          shown.current = { image: new ImageData(p.width, p.height), piece: p };
        }
        if (p.draw(shown.current!.image, where.ms, fresh)) c.getContext('2d')!.putImageData(shown.current!.image, 0, 0);
        setBad(false);
        if (where.piece + 1 < line.pieces.length) void piece(where.piece + 1).catch(() => undefined);
      }, () => go && setBad(true))
      .finally(() => {
        clearTimeout(late);
        if (go) setLoading(false);
      });
    return () => {
      go = false;
      clearTimeout(late);
    };
  }, [at, line]);

  useEffect(() => {
    if (!playing) return undefined;
    let frame = 0;
    let before = performance.now();
    const step = (now: number) => {
      const passed = (now - before) * speed;
      before = now;
      setAt((v) => Math.min(line.length, v + passed));
      frame = requestAnimationFrame(step);
    };
    frame = requestAnimationFrame(step);
    return () => cancelAnimationFrame(frame);
  }, [playing, speed, line]);
  useEffect(() => {
    if (at >= line.length) setPlaying(false);
  }, [at, line]);

  // A step of the list below was chosen, or an event of the timeline. In a pause of the screen the line stands still: what was asked for is what counts.
  const asked = useRef<{ at: number; moment: number } | null>(null);
  useEffect(() => {
    const jump = (e: Event) => {
      const moment = (e as CustomEvent<number>).detail;
      const to = line.place(moment);
      if (to === null) return;
      asked.current = { at: to, moment };
      setAt(to);
      replayAt.value = moment;
    };
    document.addEventListener('berth:moment', jump);
    return () => document.removeEventListener('berth:moment', jump);
  }, [line]);

  const real = line.real(at);
  useEffect(() => {
    replayAt.value = asked.current?.at === at ? asked.current.moment : real;
  }, [at, real]);
  useEffect(() => () => {
    replayAt.value = null;
  }, []);
  return (
    <div class="replay" data-playing={String(playing)}>
      <canvas ref={canvas} role="img" aria-label={t.alt} onClick={() => setPlaying(!playing)} />
      {loading && <div class="replay-wait"><Spinner /></div>}
      {bad && <div class="desk-over veil" role="status"><Icon name="monitorOff" size={30} /><h3>{t.lost}</h3></div>}
      <div class="replay-bar">
        <IconButton
          icon={playing ? 'square' : 'play'} label={playing ? t.pause : t.play}
          onClick={() => {
            if (!playing && at >= line.length) setAt(0);
            setPlaying(!playing);
          }}
        />
        <div class="replay-line">
          <div class="replay-marks" aria-hidden="true">
            {marks.map((m) => <i key={m.key} class={m.failed ? 'bad' : ''} title={m.title} style={{ left: `${(100 * m.at) / Math.max(1, line.length)}%` }} />)}
          </div>
          <input
            type="range" min={0} max={Math.max(1, Math.round(line.length))} step={50} value={Math.round(at)} aria-label={t.seek} aria-valuetext={`${time(at)} ${clock(new Date(real).toISOString())}`}
            style={{ '--part': `${(100 * at) / Math.max(1, line.length)}%` }}
            onInput={(e) => setAt(Number(e.currentTarget.value))}
          />
        </div>
        <span class="num replay-time">{time(at)} / {time(line.length)}</span>
        <button type="button" class="btn small" aria-label={t.speed(speed)} title={t.speed(speed)} onClick={() => setSpeed(SPEEDS[(SPEEDS.indexOf(speed) + 1) % SPEEDS.length]!)}>{speed}×</button>
        <ExportButton id={id} known={info.exports ?? []} />
      </div>
    </div>
  );
}
