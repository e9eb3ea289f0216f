/** All sessions, live through /ws: init, event, session_updated, session_deleted; resumes after the last cursor it saw. */
import { batch, computed, signal } from '@preact/signals';
import { ApiError, getJson, postJson, request } from '../lib/api';
import { LiveSocket, type Link } from '../lib/socket';
import { describe } from '../model/describe';
import { amounts } from '../model/transcript';
import type { BerthEvent, Session, SessionStatus } from '../types';

export const sessions = signal<ReadonlyMap<string, Session>>(new Map());
export const loaded = signal(false);
export const link = signal<Link>('connecting');
/** The last thing each session did, in a few words, for its card. */
export const activity = signal<ReadonlyMap<string, string>>(new Map());
/** Counts the screenshots of each session, so that thumbnails know when to look again. */
export const frames = signal<ReadonlyMap<string, number>>(new Map());

export const sorted = computed(() => [...sessions.value.values()].sort((a, b) => (a.modified_at < b.modified_at ? 1 : -1)));

let socket: LiveSocket | null = null;
let cursor: string | null = null;
/** Whose history `cursor` and every seq are of: a database that was restored has another one. */
let epoch: string | null = null;

export const historyEpoch = (): string | null => epoch;

/** The part of an address that says of which history its position is. */
export const ofEpoch = (of: string | null): string => (of === null ? '' : `&epoch=${encodeURIComponent(of)}`);

/** Does a position lead nowhere any more? What follows it was removed by retention, or it is of another history. */
export async function positionLost(path: string, position: number): Promise<boolean> {
  try {
    return (await getJson<{ newest: number }>(path)).newest < position;
  } catch (e) {
    return e instanceof ApiError && e.status === 410;
  }
}

function put(s: Session): void {
  const m = new Map(sessions.value);
  m.set(s.session_id, s);
  sessions.value = m;
}

export function patchSession(id: string, part: Partial<Session>): void {
  const old = sessions.value.get(id);
  if (old) put({ ...old, ...part });
}

function drop(id: string): void {
  if (!sessions.value.has(id)) return;
  const m = new Map(sessions.value);
  m.delete(id);
  sessions.value = m;
}

function onEvent(e: BerthEvent): void {
  if (cursor !== null && Number(e.id) <= Number(cursor)) return;
  cursor = String(e.id);
  const id = e.session_id;
  if (e.event_type === 'pre_tool') {
    const input = e.tool_input !== null && typeof e.tool_input === 'object' ? (e.tool_input as Record<string, unknown>) : {};
    activity.value = new Map(activity.value).set(id, describe(String(e.tool_name ?? ''), input, true).title);
  }
  if (e.event_type === 'screenshot') frames.value = new Map(frames.value).set(id, (frames.value.get(id) ?? 0) + 1);
  const part: Partial<Session> = { last_seq: e.seq };
  if (e.timestamp > (sessions.value.get(id)?.modified_at ?? '')) part.modified_at = e.timestamp;
  if (e.event_type === 'status' && typeof e.to === 'string') part.status = e.to as SessionStatus;
  if (e.event_type === 'usage' && e.total) part.usage = { ...sessions.value.get(id)?.usage, ...amounts(e.total) };
  patchSession(id, part);
}

function onMessage(data: unknown): void {
  const m = data as { type?: string; sessions?: Session[]; cursor?: string | number; epoch?: string; event?: BerthEvent; session?: Session; session_id?: string };
  switch (m.type) {
    case 'init':
      sessions.value = new Map((m.sessions ?? []).map((s) => [s.session_id, s]));
      if (cursor === null && m.cursor !== undefined && m.cursor !== null) cursor = String(m.cursor);
      epoch = m.epoch ?? null;
      loaded.value = true;
      break;
    case 'event':
      if (m.event) onEvent(m.event);
      break;
    case 'session_updated':
      if (m.session) put(m.session);
      break;
    case 'session_deleted':
      if (m.session_id) drop(m.session_id);
      break;
    case 'gone':
    case 'resync':
      cursor = null;
      break;
    default:
      break;
  }
}

let waiting: unknown[] = [];
let due = false;

/** Many messages may come at once (a resume, busy agents): the page is drawn once for all of a frame. */
function later(data: unknown): void {
  waiting.push(data);
  if (due) return;
  due = true;
  const run = () => {
    due = false;
    const all = waiting;
    waiting = [];
    batch(() => all.forEach((m) => {
      try {
        onMessage(m);
      } catch (e) {
        console.error(e); // one that cannot be read takes none of the others with it
      }
    }));
  };
  if (document.visibilityState === 'hidden') setTimeout(run, 250);
  else requestAnimationFrame(run);
}

export function startFeed(): () => void {
  socket = new LiveSocket({
    path: () => (cursor === null ? '/ws' : `/ws?after=${encodeURIComponent(cursor)}${ofEpoch(epoch)}`),
    message: later,
    refused: async () => {
      // The list comes whole with each new connection: without a position nothing is missing in it.
      if (cursor !== null && (await positionLost(`/events?after=${encodeURIComponent(cursor)}&limit=1${ofEpoch(epoch)}`, Number(cursor)))) cursor = null;
      return false;
    },
    state: (l) => {
      link.value = l;
    },
  });
  return () => {
    socket?.close();
    socket = null;
    cursor = null;
    epoch = null;
    waiting = [];
    loaded.value = false;
    sessions.value = new Map();
  };
}

export const reconnect = (): void => socket?.retryNow();

export interface NewSession {
  agent_name?: string;
  session_name?: string;
  kind?: string;
  model?: string;
  message?: string;
  files?: { document_id: string; path: string }[];
}

export async function createSession(body: NewSession): Promise<Session> {
  const s = await postJson<Session>('/sessions', body, { headers: { 'Idempotency-Key': crypto.randomUUID() } });
  put(s);
  return s;
}

export type Action = 'stop' | 'pause' | 'resume' | 'interrupt';
const BECOMES: Record<Action, SessionStatus> = { stop: 'stopped', pause: 'paused', resume: 'running', interrupt: 'idle' };

/** Shown as done at once; taken back when the server says no, unless something else has changed it meanwhile. */
export async function controlSession(id: string, action: Action): Promise<void> {
  const before = sessions.value.get(id);
  patchSession(id, { status: BECOMES[action] });
  try {
    const r = await postJson<Partial<Session>>(`/sessions/${encodeURIComponent(id)}/${action}`, undefined);
    if (r.status !== undefined) put(r as Session);
  } catch (e) {
    if (before && sessions.value.get(id)?.status === BECOMES[action]) patchSession(id, { status: before.status });
    throw e;
  }
}

/** A new idle session with the history up to `after`, or with all of it. */
export async function forkSession(id: string, name: string, after?: number): Promise<Session> {
  const body = { session_name: [...name].slice(0, 200).join(''), ...(after === undefined ? {} : { after_seq: after }) };
  const s = await postJson<Session>(`/sessions/${encodeURIComponent(id)}/fork`, body, { headers: { 'Idempotency-Key': crypto.randomUUID() } });
  put(s);
  return s;
}

async function change(id: string, part: Partial<Session>, json: object): Promise<void> {
  const before = sessions.value.get(id);
  patchSession(id, part);
  try {
    const r = await request(`/sessions/${encodeURIComponent(id)}/metadata`, { method: 'PATCH', json });
    put((await r.json()) as Session);
  } catch (e) {
    if (before) put(before);
    throw e;
  }
}

export const renameSession = (id: string, name: string): Promise<void> => change(id, { session_name: name }, { session_name: name });

export const setBudget = (id: string, budget: Record<string, number>): Promise<void> =>
  change(id, { budget: { ...sessions.value.get(id)?.budget, ...budget } }, { budget });

export async function deleteSession(id: string): Promise<void> {
  await request(`/sessions/${encodeURIComponent(id)}`, { method: 'DELETE' });
  drop(id);
}
