/** Short messages at the edge of the page; errors say what to do next. */
import { signal } from '@preact/signals';
import { ApiError } from '../lib/api';
import { texts } from '../texts';

export interface Toast { id: number; tone: 'error' | 'good' | 'info'; title: string; text?: string }

export const toasts = signal<Toast[]>([]);
let next = 1;
const MOST = 4;

export function toast(tone: Toast['tone'], title: string, text?: string): void {
  const id = next++;
  toasts.value = [...toasts.value.filter((t) => t.title !== title || t.text !== text), { id, tone, title, text }].slice(-MOST);
  setTimeout(() => dismiss(id), tone === 'error' ? 9000 : 4000);
}

export function dismiss(id: number): void {
  toasts.value = toasts.value.filter((t) => t.id !== id);
}

export function toastError(e: unknown): void {
  if (e instanceof ApiError) {
    if (e.status === 401) return;
    toast('error', e.message, texts.errors.next[e.status]);
  } else {
    toast('error', e instanceof Error ? e.message : String(e));
  }
}
