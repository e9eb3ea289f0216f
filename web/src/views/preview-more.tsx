/** Beside the preview: the name to be changed, versions, and documents that belong to this one. */
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { getJson, postJson, request } from '../lib/api';
import { download } from '../lib/download';
import { bytes, full } from '../lib/format';
import { follow, paths } from '../lib/router';
import { patchDocument } from '../state/documents';
import { toastError } from '../state/toasts';
import { texts } from '../texts';
import type { Doc, Found, Relation, Version } from '../types';
import { copyText, IconButton } from '../ui/controls';
import { Icon } from '../ui/icons';

export function Name({ d }: { d: Doc | null }) {
  const t = texts.documents;
  const [editing, setEditing] = useState(false);
  if (!d) return <h2 />;
  if (!editing) {
    return (
      <>
        <h2 class="cut" title={d.filename}>{d.filename}</h2>
        <IconButton icon="pencil" label={t.rename} onClick={() => setEditing(true)} />
      </>
    );
  }
  return (
    <input
      class="input rename" aria-label={t.rename} defaultValue={d.filename} maxLength={255}
      ref={(el) => {
        if (!el || el === document.activeElement) return;
        el.focus();
        el.setSelectionRange(0, Math.max(d.filename.lastIndexOf('.'), 0) || d.filename.length);
      }}
      onBlur={(e) => {
        setEditing(false);
        const name = e.currentTarget.value.trim();
        if (name && name !== d.filename) patchDocument(d.id, { filename: name }).catch(toastError);
      }}
      onKeyDown={(e) => {
        if (e.key === 'Escape') e.currentTarget.value = d.filename;
        if (e.key === 'Escape' || e.key === 'Enter') e.currentTarget.blur();
      }}
    />
  );
}

export function Checksum({ value }: { value: string }) {
  const t = texts.documents;
  return (
    <div title={value}>
      <dt>{t.checksum}</dt>
      <dd class="mono">{value.slice(0, 12)}… <IconButton icon="copy" small size={12} label={t.copyChecksum} onClick={() => void copyText(value)} /></dd>
    </div>
  );
}

function Versions({ d }: { d: Doc }) {
  const t = texts.documents;
  const [list, setList] = useState<Version[] | null>(null);
  useEffect(() => {
    getJson<{ versions: Version[] }>(`/documents/${d.id}/versions?limit=50`).then((r) => setList(r.versions), toastError);
  }, [d.id, d.version]);
  return (
    <ul class="versions">
      {list?.map((v) => (
        <li key={v.version}>
          <b class="num">{t.version(v.version)}</b><span class="dim">{full(v.created_at)}</span><span class="num dim">{bytes(v.size_bytes)}</span>
          <IconButton icon="download" small label={t.downloadVersion(v.version)} onClick={() => void download(`/documents/${d.id}?version=${v.version}`, d.filename)} />
        </li>
      ))}
    </ul>
  );
}

const KINDS = ['related', 'parent', 'child', 'predecessor', 'successor'] as const;

/** Finds the other document by what is typed, and relates it. */
function AddRelation({ d, onDone }: { d: Doc; onDone: () => void }) {
  const t = texts.documents;
  const [kind, setKind] = useState<string>('related');
  const [hits, setHits] = useState<Found[]>([]);
  const timer = useRef(0);
  const look = (q: string) => {
    clearTimeout(timer.current);
    timer.current = window.setTimeout(() => {
      if (!q.trim()) return setHits([]);
      getJson<{ results: Found[] }>(`/documents/search?${new URLSearchParams({ q: q.trim(), prefix: 'yes', limit: '6' })}`).then((r) => setHits(r.results.filter((f) => f.id !== d.id)), toastError);
      return undefined;
    }, 180);
  };
  const add = (other: string) => postJson(`/documents/${d.id}/relations`, { document_id: other, kind }).then(onDone, toastError);
  return (
    <div class="relate">
      <select class="input" aria-label={t.relationKind} value={kind} onChange={(e) => setKind(e.currentTarget.value)}>{KINDS.map((k) => <option key={k} value={k}>{t.kinship[k]}</option>)}</select>
      <input class="input" type="search" aria-label={t.relationFind} placeholder={t.relationFind} onInput={(e) => look(e.currentTarget.value)} />
      {hits.length > 0 && <ul>{hits.map((f) => <li key={f.id}><button type="button" class="btn plain small" onClick={() => void add(f.id)}><Icon name="plus" size={13} /><span class="cut">{f.filename}</span></button></li>)}</ul>}
    </div>
  );
}

function Relations({ d }: { d: Doc }) {
  const t = texts.documents;
  const [list, setList] = useState<Relation[] | null>(null);
  const read = () => void getJson<{ relations: Relation[] }>(`/documents/${d.id}/relations`).then((r) => setList(r.relations), toastError);
  useEffect(read, [d.id]);
  const remove = (r: Relation) => request(`/documents/${d.id}/relations?document_id=${encodeURIComponent(r.document_id)}&kind=${encodeURIComponent(r.kind)}`, { method: 'DELETE' }).then(read, toastError);
  return (
    <>
      <ul class="versions">
        {list?.map((r) => (
          <li key={`${r.kind} ${r.document_id}`}>
            <span class="chip">{t.kinship[r.kind as keyof typeof t.kinship] ?? r.kind}</span>
            <a class="cut" href={paths.document(r.document_id)} onClick={follow}>{r.filename}</a>
            <IconButton icon="x" small label={t.removeRelation(r.filename)} onClick={() => void remove(r)} />
          </li>
        ))}
      </ul>
      <AddRelation d={d} onDone={read} />
    </>
  );
}

/** Read when first opened. */
function Fold({ title, children }: { title: string; children: () => ComponentChildren }) {
  const [open, setOpen] = useState(false);
  return (
    <details class="unfold" onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary><Icon name="chevron" size={13} />{title}</summary>
      {open && children()}
    </details>
  );
}

export function More({ d }: { d: Doc }) {
  const t = texts.documents;
  return (
    <div class="folds">
      <Fold title={t.versions(d.version ?? 1)}>{() => <Versions d={d} />}</Fold>
      <Fold title={t.relations}>{() => <Relations d={d} />}</Fold>
    </div>
  );
}

/** How far reading its text is, where that says something. */
export function TextStatus({ d }: { d: Doc }) {
  const t = texts.documents;
  if (!d.text_status) return null;
  const again = () => request(`/documents/${d.id}/text`, { method: 'POST' }).catch(toastError);
  return (
    <div title={d.text_error ?? d.hook_error ?? undefined} data-text={d.text_status}>
      <dt>{t.text}</dt>
      <dd>{t.textStatus[d.text_status]}{d.text_error && d.text_status !== 'queued' ? `: ${d.text_error}` : ''} {d.text_status === 'failed' && <IconButton icon="refresh" small size={12} label={t.readAgain} onClick={() => void again()} />}</dd>
      {d.hook_error && <dd class="wrong">{t.hookFailed(d.hook_error)}</dd>}
    </div>
  );
}
