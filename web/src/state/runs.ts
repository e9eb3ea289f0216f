/** Uploads that start runs: picked files with their folders, the request, the live log of what it started. */
import { request, upload } from '../lib/api';
import { readEvents } from '../lib/sse';

export interface Picked { path: string; file: File }
export interface Started { session_id: string; volume_name: string; file_count: number }
export interface LogLine { seq: number; type: 'log' | 'status' | 'error' | 'complete'; level: string; text: string; time: string; data?: unknown }

/** Files of an <input>: with a folder chosen each knows its path. */
export function fromInput(files: Iterable<File>): Picked[] {
  return [...files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
}

async function walk(entry: FileSystemEntry, out: Picked[]): Promise<void> {
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    out.push({ path: entry.fullPath.replace(/^\//, ''), file });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    const part = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (part.length === 0) return;
    for (const e of part) await walk(e, out);
  }
}

/** What was dropped, folders walked through. The entries must be taken before the first wait. */
export async function fromDrop(data: DataTransfer): Promise<Picked[]> {
  const entries = [...data.items].map((i) => i.webkitGetAsEntry()).filter((e) => e !== null);
  if (entries.length === 0) return fromInput(data.files);
  const out: Picked[] = [];
  for (const e of entries) await walk(e, out);
  return out;
}

/** One path is one file: what comes later wins. */
export function join(have: Picked[], more: Picked[]): Picked[] {
  const all = new Map(have.map((p) => [p.path, p]));
  for (const p of more) all.set(p.path, p);
  return [...all.values()].sort((a, b) => a.path.localeCompare(b.path));
}

/** Paths go as fields of their own: not every browser keeps folders in a part's filename. */
export function start(files: Picked[], context: string, onProgress: (part: number) => void, signal: AbortSignal): Promise<Started> {
  const form = new FormData();
  form.set('experiment_context', context);
  form.set('session_name', [...(files[0]!.path.split('/')[0] ?? '')].slice(0, 60).join(''));
  for (const { path, file } of files) {
    form.append('paths[]', path);
    form.append('files[]', file, file.name);
  }
  return upload<Started>('/upload', form, onProgress, signal);
}

interface Update { seq: number; type: string; level?: string; message?: string; data?: unknown; to?: string; reason?: string; timestamp: string }

function line(u: Update): LogLine {
  const base = { seq: u.seq, time: u.timestamp };
  if (u.type === 'log') return { ...base, type: 'log', level: u.level ?? 'info', text: u.message ?? '', data: u.data };
  if (u.type === 'error') return { ...base, type: 'error', level: 'error', text: u.message ?? '' };
  if (u.type === 'complete') return { ...base, type: 'complete', level: 'info', text: u.reason ?? '' };
  return { ...base, type: 'status', level: 'info', text: u.to ?? '' };
}

/** Follows the log from its beginning until stopped; after a break it goes on where it was. */
export function followLog(session: string, onLine: (l: LogLine) => void, onError: (e: unknown) => void): () => void {
  const stop = new AbortController();
  let after = 0;
  const read = async (): Promise<void> => {
    const r = await request(`/stream?session_id=${encodeURIComponent(session)}`, {
      signal: stop.signal, headers: { Accept: 'text/event-stream', ...(after ? { 'Last-Event-ID': String(after) } : {}) },
    });
    await readEvents(r, ({ data }) => {
      const u = JSON.parse(data) as Update;
      if (typeof u.seq !== 'number' || u.seq <= after) return;
      after = u.seq;
      onLine(line(u));
    });
  };
  const run = async (): Promise<void> => {
    for (let wait = 500; !stop.signal.aborted; wait = Math.min(wait * 2, 10_000)) {
      try {
        const before = after;
        await read();
        if (after > before) wait = 500;
      } catch (e) {
        if (stop.signal.aborted) return;
        if (e instanceof Error && 'status' in e && (e.status === 404 || e.status === 401 || e.status === 410)) {
          onError(e);
          return;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  };
  void run();
  return () => stop.abort();
}
