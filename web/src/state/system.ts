/** What the gateway says about itself: ready or not, the model, demo or not. Asked at start and every 15 s while the page is seen. */
import { signal } from '@preact/signals';
import { ApiError, getJson } from '../lib/api';
import type { Ready, Status } from '../types';

export const ready = signal<Ready | null>(null);
export const status = signal<Status | null>(null);

let timer = 0;

async function ask(): Promise<void> {
  try {
    ready.value = await getJson<Ready>('/ready', { quiet: true });
  } catch (e) {
    ready.value = e instanceof ApiError && e.status === 503 ? { ready: false } : null;
  }
  try {
    status.value = await getJson<Status>('/status', { quiet: true });
  } catch {
    // The last known status stays; the connection light tells the rest.
  }
}

export function watchSystem(): () => void {
  void ask();
  timer = window.setInterval(() => document.visibilityState === 'visible' && void ask(), 15_000);
  return () => clearInterval(timer);
}
