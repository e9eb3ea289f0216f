/** Documents: pages of the list, full-text search, tag counts, selection, uploads with progress. */
import { computed, effect, signal } from '@preact/signals';
import { ApiError, getJson, postJson, request, upload } from '../lib/api';
import { readEvents } from '../lib/sse';
import { texts } from '../texts';
import type { Answer, Doc, Found, Source, TagCount } from '../types';
import { toastError } from './toasts';

export const PAGE = 50;
export const SORTS = ['-updated_at', '-created_at', 'created_at', 'filename', '-filename', '-size_bytes', 'size_bytes'] as const;
export type Sort = (typeof SORTS)[number];

export const docs = signal<Doc[] | null>(null);
export const total = signal(0);
export const offset = signal(0);
export const sort = signal<Sort>('-created_at');
export const tagCounts = signal<TagCount[] | null>(null);
export const query = signal('');
export const tagFilter = signal<string[]>([]);
export const selected = signal<ReadonlySet<string>>(new Set());
/** What the search found, best first; null while nothing is searched for. */
export const found = signal<Found[] | null>(null);
export const foundMore = signal<string | null>(null);
/** The document that is open, also when no list holds it. */
export const opened = signal<Doc | null>(null);
export const filtered = computed(() => query.value.trim() !== '' || tagFilter.value.length > 0);

export interface Upload { id: number; name: string; size: number; part: number; state: 'running' | 'done' | 'failed'; error?: string; cancel: () => void }
export const uploads = signal<Upload[]>([]);

let turn = 0;
let searched = '';

function listPath(): string {
  const q = new URLSearchParams({ limit: String(PAGE), offset: String(offset.value), sort: sort.value });
  if (tagFilter.value.length > 0) q.set('tags', tagFilter.value.join(','));
  return `/documents?${q}`;
}

function searchPath(words: string, cursor?: string): string {
  const q = new URLSearchParams({ q: words, limit: '25', prefix: 'yes' });
  if (tagFilter.value.length > 0) q.set('tags', tagFilter.value.join(','));
  if (cursor) q.set('cursor', cursor);
  return `/documents/search?${q}`;
}

interface List { documents: Doc[]; total?: number }
interface Search { results: Found[]; next_cursor: string | null }

/** Reads what is shown again; answers to an older question are dropped. */
export async function refresh(): Promise<void> {
  const mine = ++turn;
  const words = query.value.trim();
  try {
    const [list, hits, tags] = await Promise.all([
      getJson<List>(listPath()),
      words ? getJson<Search>(searchPath(words)) : null,
      getJson<{ tags: TagCount[] }>('/documents/tags'),
    ]);
    if (mine !== turn) return;
    searched = words;
    docs.value = list.documents;
    total.value = list.total ?? list.documents.length;
    found.value = hits?.results ?? null;
    foundMore.value = hits?.next_cursor ?? null;
    tagCounts.value = tags.tags;
    if (list.documents.length === 0 && offset.value > 0) offset.value = 0;
  } catch (e) {
    if (mine !== turn) return;
    docs.value ??= [];
    toastError(e);
  }
}

export async function moreFound(): Promise<void> {
  const mine = turn;
  if (!foundMore.value) return;
  const hits = await getJson<Search>(searchPath(searched, foundMore.value));
  if (mine !== turn) return;
  found.value = [...(found.value ?? []), ...hits.results];
  foundMore.value = hits.next_cursor;
}

/** Keeps what is shown in step with the filters while the view is open; typing is waited out. */
export function watchDocuments(): () => void {
  let timer = 0;
  let first = true;
  let words = query.value;
  const stop = effect(() => {
    void tagFilter.value;
    void sort.value;
    void offset.value;
    const typed = query.value !== words;
    words = query.value;
    clearTimeout(timer);
    timer = window.setTimeout(() => void refresh(), first || !typed ? 0 : 180);
    first = false;
  });
  // Texts are read in the background: their state is looked at again until it rests.
  const again = window.setInterval(() => {
    if (document.visibilityState === 'visible' && docs.value?.some((d) => d.text_status === 'queued' || d.text_status === 'reading')) void refresh();
  }, 4000);
  return () => {
    stop();
    clearTimeout(timer);
    clearInterval(again);
    turn += 1;
  };
}

export function filterTags(tags: string[]): void {
  offset.value = 0;
  tagFilter.value = tags;
}

export function select(id: string, on: boolean): void {
  const next = new Set(selected.value);
  if (on) next.add(id);
  else next.delete(id);
  selected.value = next;
}

/** The same change of tags for all that are selected; all or none. */
export async function tagSelected(change: { add?: string[]; remove?: string[] }): Promise<number> {
  const r = await postJson<{ updated: number }>('/documents/tags/edit', { ids: [...selected.value], ...change });
  await refresh();
  return r.updated;
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

/** The document, wherever it is shown: in the list, among what was found, opened by its address. */
function replace(d: Doc): void {
  docs.value = docs.value?.map((o) => (o.id === d.id ? d : o)) ?? null;
  found.value = found.value?.map((f) => (f.id === d.id ? { ...f, filename: d.filename, document: d } : f)) ?? null;
  if (opened.value?.id === d.id) opened.value = d;
}

export const documentOf = (id: string): Doc | null =>
  docs.value?.find((d) => d.id === id) ?? found.value?.find((f) => f.id === id)?.document ?? (opened.value?.id === id ? opened.value : null);

/** Shown as done at once; taken back when it is refused. */
export async function patchDocument(id: string, part: { tags?: string[]; description?: string; filename?: string }): Promise<Doc> {
  const before = documentOf(id);
  const { description, ...plain } = part;
  if (before) replace({ ...before, ...plain, metadata: description === undefined ? before.metadata : { ...before.metadata, description } });
  try {
    const r = await request(`/documents/${encodeURIComponent(id)}`, { method: 'PATCH', json: part });
    const d = (await r.json()) as Doc;
    replace(d);
    void getJson<{ tags: TagCount[] }>('/documents/tags').then((t) => (tagCounts.value = t.tags)).catch(() => undefined);
    return d;
  } catch (e) {
    if (before) replace(before);
    throw e;
  }
}

export async function deleteDocument(id: string): Promise<void> {
  await request(`/documents/${encodeURIComponent(id)}`, { method: 'DELETE' });
  docs.value = docs.value?.filter((d) => d.id !== id) ?? null;
  found.value = found.value?.filter((f) => f.id !== id) ?? null;
  select(id, false);
  void refresh();
}

interface Heard { sources: (s: Source[]) => void; said: (text: string) => void }

/** A question; the passages are told as soon as they are found, the answer as it is spoken. What it resolves with is what holds. */
export async function askDocuments(question: string, signal: AbortSignal, heard: Heard): Promise<Answer> {
  const r = await request('/documents/ask', { method: 'POST', json: { question, tags: tagFilter.value }, signal, headers: { Accept: 'text/event-stream' } });
  let text = '';
  const end: { answer?: Answer; error?: ApiError } = {};
  await readEvents(r, ({ event, data }) => {
    const m = JSON.parse(data) as { sources?: Source[]; text?: string; error?: { code: string; message: string } };
    if (event === 'sources') heard.sources(m.sources ?? []);
    if (event === 'delta') heard.said((text += m.text ?? ''));
    if (event === 'restart') heard.said((text = ''));
    if (event === 'answer') end.answer = JSON.parse(data) as Answer;
    if (event === 'error' && m.error) end.error = new ApiError(503, m.error.code, m.error.message);
  });
  if (end.error) throw end.error;
  if (!end.answer) throw new ApiError(0, 'unreachable', texts.errors.cut);
  return end.answer;
}

export const TAG = /^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$/;
