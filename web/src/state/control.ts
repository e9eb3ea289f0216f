/** Taking over a desktop: the lease of this tab, kept alive while it is wanted. */
import { signal } from '@preact/signals';
import { getJson, postJson, request } from '../lib/api';
import type { Session, SlotControl } from '../types';
import { sessions } from './feed';
import { toastError } from './toasts';

/** This tab, towards the gateway: another tab of the same person is another viewer. */
export const VIEWER = crypto.randomUUID();

/** Sessions whose lease this tab renews. */
const kept = new Map<string, number>();
export const busy = signal(false);

const path = (id: string, what: string): string => `/sessions/${encodeURIComponent(id)}/${what}`;

interface Reply { lease_ms: number; session: Session }

function note(s: Session): void {
  const m = new Map(sessions.value);
  m.set(s.session_id, { ...m.get(s.session_id), ...s });
  sessions.value = m;
}

export function controlOf(s: Session | undefined): SlotControl | null {
  return s?.slot?.control ?? null;
}

export function isMine(s: Session | undefined): boolean {
  return controlOf(s)?.viewer === VIEWER;
}

function forget(id: string): void {
  clearTimeout(kept.get(id));
  kept.delete(id);
}

function keep(id: string, leaseMs: number): void {
  clearTimeout(kept.get(id));
  kept.set(id, window.setTimeout(() => void renew(id), leaseMs / 3));
}

async function renew(id: string): Promise<void> {
  if (!kept.has(id)) return;
  try {
    const r = await postJson<Reply>(path(id, 'control'), { take: true, viewer: VIEWER });
    if (kept.has(id)) keep(id, r.lease_ms);
  } catch {
    // Away for a moment: asked again until somebody else has it.
    if (!kept.has(id)) return;
    if (sessions.value.get(id) && !isMine(sessions.value.get(id))) forget(id);
    else keep(id, 6000);
  }
}

async function ask(id: string, what: object): Promise<Reply | null> {
  busy.value = true;
  try {
    const r = await postJson<Reply>(path(id, 'control'), { viewer: VIEWER, ...what });
    note(r.session);
    return r;
  } catch (e) {
    toastError(e);
    return null;
  } finally {
    busy.value = false;
  }
}

export async function take(id: string, force: boolean): Promise<void> {
  const r = await ask(id, force ? { take: true, force: true } : { take: true });
  if (r) keep(id, r.lease_ms);
}

export async function giveBack(id: string): Promise<void> {
  forget(id);
  await ask(id, { release: true });
}

export async function setSecret(id: string, on: boolean): Promise<void> {
  await ask(id, { secret: on });
}

/** The view is left: others, and the agent, need not wait until the lease runs out. */
export function leave(id: string): void {
  if (!kept.has(id)) return;
  forget(id);
  void postJson(path(id, 'control'), { release: true, viewer: VIEWER }).catch(() => undefined);
}

export async function readClipboard(id: string): Promise<string> {
  return (await getJson<{ text: string }>(path(id, 'clipboard'))).text;
}

export async function writeClipboard(id: string, text: string): Promise<void> {
  await request(path(id, 'clipboard'), { method: 'PUT', json: { text } });
}

export async function resize(id: string, width: number, height: number): Promise<void> {
  await request(path(id, 'display'), { method: 'PUT', json: { width, height } });
}
