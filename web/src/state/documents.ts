/** Documents: list with filters, tag counts, uploads with progress. */
import { computed, effect, signal } from '@preact/signals';
import { getJson, request, upload } from '../lib/api';
import type { Doc, TagCount } from '../types';
import { toastError } from './toasts';

const PAGE = 100;

export const docs = signal<Doc[] | null>(null);
export const more = signal(false);
export const tagCounts = signal<TagCount[] | null>(null);
export const nameFilter = signal('');
export const tagFilter = signal<string[]>([]);
export const filtered = computed(() => nameFilter.value.trim() !== '' || tagFilter.value.length > 0);

export interface Upload { id: number; name: string; size: number; part: number; state: 'running' | 'done' | 'failed'; error?: string; cancel: () => void }
export const uploads = signal<Upload[]>([]);

let turn = 0;

function query(offset: number): string {
  const q = new URLSearchParams({ limit: String(PAGE), offset: String(offset) });
  if (nameFilter.value.trim()) q.set('filename', nameFilter.value.trim());
  if (tagFilter.value.length > 0) q.set('tags', tagFilter.value.join(','));
  return `/documents?${q}`;
}

/** Reads the first page again; answers to an older question are dropped. */
export async function refresh(): Promise<void> {
  const mine = ++turn;
  try {
    const [list, tags] = await Promise.all([getJson<{ documents: Doc[] }>(query(0)), getJson<{ tags: TagCount[] }>('/documents/tags')]);
    if (mine !== turn) return;
    docs.value = list.documents;
    more.value = list.documents.length === PAGE;
    tagCounts.value = tags.tags;
  } catch (e) {
    if (mine !== turn) return;
    docs.value ??= [];
    toastError(e);
  }
}

export async function readMore(): Promise<void> {
  const mine = turn;
  const have = docs.value ?? [];
  const list = await getJson<{ documents: Doc[] }>(query(have.length));
  if (mine !== turn) return;
  const known = new Set(have.map((d) => d.id));
  docs.value = [...have, ...list.documents.filter((d) => !known.has(d.id))];
  more.value = list.documents.length === PAGE;
}

/** Keeps the list in step with the filters while the view is open; typing is waited out. */
export function watchDocuments(): () => void {
  let timer = 0;
  let first = true;
  const stop = effect(() => {
    void nameFilter.value;
    void tagFilter.value;
    clearTimeout(timer);
    timer = window.setTimeout(() => void refresh(), first ? 0 : 180);
    first = false;
  });
  return () => {
    stop();
    clearTimeout(timer);
    turn += 1;
  };
}

let nextUpload = 1;

/** Uploads one file; resolves with the document. Used by the view, the dialog of a new session and the demo. */
export function uploadFile(file: File | Blob, name: string, tags: string[], onProgress: (part: number) => void = () => undefined, signal?: AbortSignal): Promise<Doc> {
  const form = new FormData();
  if (tags.length > 0) form.set('tags', tags.join(','));
  form.set('file', file, name);
  return upload<Doc>('/documents', form, onProgress, signal);
}

export async function uploadAll(files: Iterable<File>, tags: string[]): Promise<void> {
  const jobs = [...files].map((file) => {
    const abort = new AbortController();
    const id = nextUpload++;
    uploads.value = [...uploads.value, { id, name: file.name, size: file.size, part: 0, state: 'running', cancel: () => abort.abort() }];
    return { file, id, abort };
  });
  const set = (id: number, part: Partial<Upload>) => {
    uploads.value = uploads.value.map((u) => (u.id === id ? { ...u, ...part } : u));
  };
  // Two at a time: enough to fill the line, few enough to see progress.
  const worker = async () => {
    for (let job = jobs.shift(); job; job = jobs.shift()) {
      const { file, id, abort } = job;
      if (abort.signal.aborted) {
        dismissUpload(id);
        continue;
      }
      try {
        await uploadFile(file, file.name, tags, (part) => set(id, { part }), abort.signal);
        set(id, { part: 1, state: 'done' });
        setTimeout(() => dismissUpload(id), 2500);
      } catch (e) {
        if (abort.signal.aborted) dismissUpload(id);
        else set(id, { state: 'failed', error: e instanceof Error ? e.message : String(e) });
      }
      await refresh();
    }
  };
  await Promise.all([worker(), worker()]);
}

export function dismissUpload(id: number): void {
  uploads.value = uploads.value.filter((u) => u.id !== id);
}

export async function patchDocument(id: string, part: { tags?: string[]; description?: string }): Promise<Doc> {
  const r = await request(`/documents/${encodeURIComponent(id)}`, { method: 'PATCH', json: part });
  const d = (await r.json()) as Doc;
  docs.value = docs.value?.map((o) => (o.id === id ? d : o)) ?? null;
  void getJson<{ tags: TagCount[] }>('/documents/tags').then((t) => (tagCounts.value = t.tags)).catch(() => undefined);
  return d;
}

export async function deleteDocument(id: string): Promise<void> {
  await request(`/documents/${encodeURIComponent(id)}`, { method: 'DELETE' });
  docs.value = docs.value?.filter((d) => d.id !== id) ?? null;
  void refresh();
}

export const TAG = /^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$/;
