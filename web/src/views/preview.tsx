/** One document: facts, tags, description, and a preview that never runs what it shows. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { ApiError, getJson, request } from '../lib/api';
import { download } from '../lib/download';
import { parseCsv } from '../lib/csv';
import { bytes, full } from '../lib/format';
import { go, paths } from '../lib/router';
import { fileKind, imageType, languageOf } from '../model/filetype';
import { deleteDocument, documentOf, opened, patchDocument, TAG } from '../state/documents';
import { toast, toastError } from '../state/toasts';
import { texts } from '../texts';
import type { Doc } from '../types';
import { Blank, Confirm, IconButton, Skeleton } from '../ui/controls';
import { Code } from '../ui/code';
import { Icon } from '../ui/icons';
import { Prose } from '../ui/prose';
import { Pdf } from './pdf';
import { Checksum, More, Name, TextStatus } from './preview-more';

const TEXT_MOST = 512 * 1024;
const IMAGE_MOST = 24 * 1024 * 1024;
const ROWS = 500;

const PDF_MOST = 40 * 1024 * 1024;

interface Content { text?: string; image?: string; pdf?: ArrayBuffer; cut?: boolean }

function useContent(d: Doc | null, attempt: number): { content: Content | null; failed: string | null } {
  const [content, setContent] = useState<Content | null>(null);
  const [failed, setFailed] = useState<string | null>(null);
  // What Office documents show is their text: it comes later.
  const version = d ? `${d.id} ${d.checksum ?? ''} ${fileKind(d) === 'office' ? (d.text_status ?? '') : ''}` : '';
  useEffect(() => {
    if (!d) return undefined;
    const abort = new AbortController();
    let url: string | null = null;
    setContent(null);
    setFailed(null);
    const read = async () => {
      const kind = fileKind(d);
      const path = `/documents/${encodeURIComponent(d.id)}`;
      if (kind === 'none' || (kind === 'image' && d.size_bytes > IMAGE_MOST) || (kind === 'pdf' && d.size_bytes > PDF_MOST)) return setContent({});
      if (d.size_bytes === 0) return setContent({ text: '' });
      if (kind === 'image') {
        const r = await request(path, { signal: abort.signal, headers: { Accept: '*/*' } });
        // The type is ours, from the list above: never one that could act.
        url = URL.createObjectURL(new Blob([await r.arrayBuffer()], { type: imageType(d) }));
        return setContent({ image: url });
      }
      if (kind === 'pdf') {
        const r = await request(path, { signal: abort.signal, headers: { Accept: '*/*' } });
        return setContent({ pdf: await r.arrayBuffer() });
      }
      if (kind === 'office') {
        const r = await getJson<{ text: string }>(`${path}/text`, { signal: abort.signal });
        return setContent(r.text ? { text: r.text.slice(0, TEXT_MOST), cut: r.text.length > TEXT_MOST } : {});
      }
      const cut = d.size_bytes > TEXT_MOST;
      const headers: Record<string, string> = { Accept: '*/*' };
      if (cut) headers.Range = `bytes=0-${TEXT_MOST - 1}`;
      const r = await request(path, { signal: abort.signal, headers });
      const text = new TextDecoder().decode(await r.arrayBuffer());
      return setContent({ text: cut ? text.slice(0, TEXT_MOST) : text, cut });
    };
    read().catch((e: unknown) => !abort.signal.aborted && setFailed(e instanceof Error ? e.message : String(e)));
    return () => {
      abort.abort();
      if (url) URL.revokeObjectURL(url);
    };
  }, [version, attempt]);
  return { content, failed };
}

const numeric = (v: string): boolean => /^[-+]?[\d.,\s]*\d[\d.,]*\s*%?$/.test(v.trim());

function Csv({ text }: { text: string }) {
  const { rows, more } = useMemo(() => parseCsv(text, ROWS + 1), [text]);
  const [head, ...body] = rows;
  if (!head) return <p class="dim">{texts.documents.empty}</p>;
  const right = head.map((_, c) => body.length > 0 && body.slice(0, 50).every((r) => (r[c] ?? '') === '' || numeric(r[c]!)));
  return (
    <>
      <div class="csv scroll" tabIndex={0}>
        <table>
          <thead><tr><th aria-label="#" />{head.map((h, c) => <th key={c} scope="col" class={right[c] ? 'right' : ''}>{h}</th>)}</tr></thead>
          <tbody>{body.map((r, n) => <tr key={n}><td class="row-n">{n + 1}</td>{head.map((_, c) => <td key={c} class={right[c] ? 'right' : ''} title={r[c]}>{r[c]}</td>)}</tr>)}</tbody>
        </table>
      </div>
      {more && <p class="dim">{texts.documents.rows(ROWS)}</p>}
    </>
  );
}

function Json({ text, raw }: { text: string; raw: boolean }) {
  const pretty = useMemo(() => {
    try {
      return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      return null;
    }
  }, [text]);
  return (
    <>
      {pretty === null && <p class="dim">{texts.documents.badJson}</p>}
      <pre class="source"><Code text={raw || pretty === null ? text : pretty} language="json" /></pre>
    </>
  );
}

function Body({ d, content, raw }: { d: Doc; content: Content; raw: boolean }) {
  const t = texts.documents;
  const [failed, setFailed] = useState(false);
  if (content.image) return <div class="preview-img"><img src={content.image} alt={d.filename} /></div>;
  if (content.pdf && !failed) return <Pdf data={content.pdf} name={d.filename} onFail={() => setFailed(true)} />;
  if (content.text === undefined) return <Blank icon="file" title={t.cannot} text={t.cannotHint} />;
  if (content.text === '') return <p class="dim">{t.empty}</p>;
  const kind = fileKind(d);
  if (kind === 'markdown' && !raw) return <Prose text={content.text} />;
  if (kind === 'csv' && !raw) return <Csv text={content.text} />;
  if (kind === 'json') return <Json text={content.text} raw={raw} />;
  return <pre class="source"><Code text={content.text} language={languageOf(d.filename)} /></pre>;
}

function Tags({ d }: { d: Doc }) {
  const t = texts.documents;
  const [adding, setAdding] = useState(false);
  const [wrong, setWrong] = useState<string | null>(null);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), [adding]);
  const save = (tags: string[]) => patchDocument(d.id, { tags }).catch(toastError);
  const add = () => {
    // Also called when the field loses focus because it goes away.
    if (!input.current) return;
    const names = input.current.value.split(',').map((s) => s.trim()).filter(Boolean);
    if (names.length === 0) {
      setAdding(false);
      setWrong(null);
      return;
    }
    if (names.some((n) => !TAG.test(n) || n.length > 64)) return setWrong(t.tagRule);
    const tags = [...new Set([...d.tags, ...names])];
    if (tags.length > 50) return setWrong(t.tagMany);
    setWrong(null);
    input.current.value = '';
    void save(tags);
  };
  return (
    <div class="tag-edit" aria-label={t.tags} role="group">
      {d.tags.map((x) => <span key={x} class="chip">{x}<IconButton icon="x" small size={11} label={t.removeTag(x)} onClick={() => void save(d.tags.filter((y) => y !== x))} /></span>)}
      {adding ? (
        <input
          ref={input} class="input" aria-label={t.addTag} aria-invalid={wrong !== null} placeholder={t.addTag} maxLength={200} onBlur={add}
          onKeyDown={(e) => {
            if (e.key === 'Enter' || e.key === ',') {
              e.preventDefault();
              add();
            }
            if (e.key === 'Escape') {
              e.currentTarget.value = '';
              setAdding(false);
              setWrong(null);
            }
          }}
        />
      ) : <button type="button" class="chip" onClick={() => setAdding(true)}><Icon name="plus" size={12} />{t.addTag}</button>}
      {wrong && <span class="wrong" role="alert">{wrong}</span>}
    </div>
  );
}

function Description({ d }: { d: Doc }) {
  const t = texts.documents;
  const [editing, setEditing] = useState(false);
  const now = d.metadata?.description ?? '';
  if (!editing) return <button type="button" class={`describe ${now ? '' : 'none'}`} onClick={() => setEditing(true)}>{now || t.descriptionPlaceholder}</button>;
  return (
    <textarea
      class="input" rows={2} aria-label={t.description} defaultValue={now} maxLength={4000} ref={(el) => el?.focus()}
      onBlur={(e) => {
        setEditing(false);
        const v = e.currentTarget.value.trim();
        if (v !== now) patchDocument(d.id, { description: v }).catch(toastError);
      }}
      onKeyDown={(e) => {
        if (e.key === 'Enter' && !e.shiftKey) e.currentTarget.blur();
        if (e.key === 'Escape') {
          e.currentTarget.value = now;
          e.currentTarget.blur();
        }
      }}
    />
  );
}

export function Preview({ id }: { id: string }) {
  const t = texts.documents;
  const [missing, setMissing] = useState(false);
  const [raw, setRaw] = useState(false);
  const [asking, setAsking] = useState(false);
  const d = documentOf(id);
  useEffect(() => {
    getJson<Doc>(`/documents/${encodeURIComponent(id)}/metadata`).then((own) => (opened.value = own), (e) => {
      if (e instanceof ApiError && e.status === 404) setMissing(true);
      else toastError(e);
    });
  }, [id]);
  const [attempt, setAttempt] = useState(0);
  const { content, failed } = useContent(d, attempt);
  const close = () => go(paths.documents);
  if (missing && !d) {
    return <aside class="preview"><div class="preview-head"><h2 /><IconButton icon="x" label={texts.common.close} onClick={close} /></div><Blank icon="searchX" title={t.missing} text={t.missingHint} /></aside>;
  }
  const kind = d ? fileKind(d) : 'none';
  const two = kind === 'markdown' || kind === 'json' || kind === 'csv';
  return (
    <aside class="preview" aria-label={t.preview}>
      <div class="preview-head">
        <Name key={d?.filename} d={d} />
        <span class="grow" />
        <IconButton icon="download" label={t.download} onClick={() => d && void download(`/documents/${d.id}`, d.filename)} disabled={!d} />
        <IconButton icon="trash" label={t.remove} onClick={() => setAsking(true)} disabled={!d} />
        <IconButton icon="x" label={texts.common.close} onClick={close} />
      </div>
      {d && (
        <div class="preview-info">
          <Description d={d} />
          <Tags d={d} />
          <dl class="facts">
            <div><dt>{t.type}</dt><dd>{d.content_type}</dd></div>
            <div><dt>{t.size}</dt><dd class="num">{bytes(d.size_bytes)}</dd></div>
            <div><dt>{t.created}</dt><dd>{full(d.created_at)}</dd></div>
            {d.checksum && <Checksum value={d.checksum} />}
            <TextStatus d={d} />
          </dl>
          <More d={d} />
        </div>
      )}
      <div class="preview-bar">
        {two && content?.text !== undefined && (
          <div class="segments" role="group" aria-label={t.preview}>
            <button type="button" aria-pressed={!raw} onClick={() => setRaw(false)}>{t.rendered}</button>
            <button type="button" aria-pressed={raw} onClick={() => setRaw(true)}>{t.raw}</button>
          </div>
        )}
        {kind === 'markup' && <span>{t.asText}</span>}
        {kind === 'office' && content?.text && <span>{t.asExtracted}</span>}
        {content?.cut && <span>{t.tooBig(bytes(TEXT_MOST))}</span>}
      </div>
      <div class="preview-body scroll" tabIndex={0}>
        {failed !== null && <Blank icon="unplug" title={t.unread} text={failed}><button type="button" class="btn" onClick={() => setAttempt(attempt + 1)}>{texts.common.retry}</button></Blank>}
        {failed === null && !content && <div class="doc-skel"><Skeleton width="80%" /><Skeleton width="64%" /><Skeleton width="72%" /></div>}
        {failed === null && content && d && <Body d={d} content={content} raw={raw} />}
      </div>
      {asking && d && (
        <Confirm
          title={t.removeTitle} text={t.removeText(d.filename)} action={texts.common.delete} onClose={() => setAsking(false)}
          onConfirm={async () => {
            try {
              await deleteDocument(d.id);
              setAsking(false);
              close();
              toast('good', t.removed(d.filename));
            } catch (e) {
              toastError(e);
            }
          }}
        />
      )}
    </aside>
  );
}
