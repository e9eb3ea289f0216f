/** Documents: list with tags and search, uploads by button and drop, preview beside it. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { ago, bytes, full } from '../lib/format';
import { follow, go, paths } from '../lib/router';
import { extension, fileKind, type FileKind } from '../model/filetype';
import { now } from '../state/clock';
import { dismissUpload, docs, filtered, more, nameFilter, readMore, tagCounts, tagFilter, uploadAll, uploads, watchDocuments } from '../state/documents';
import { toastError } from '../state/toasts';
import { texts } from '../texts';
import type { Doc } from '../types';
import { Blank, IconButton, Skeleton } from '../ui/controls';
import { Icon, type IconName } from '../ui/icons';
import { Preview } from './preview';

const ICONS: Record<FileKind, IconName> = { image: 'fileImage', markdown: 'fileText', json: 'fileJson', csv: 'fileSheet', markup: 'fileCode', text: 'fileText', none: 'file' };

function docIcon(d: Doc): IconName {
  const kind = fileKind(d);
  return kind === 'text' && !['txt', 'log', ''].includes(extension(d.filename)) ? 'fileCode' : ICONS[kind];
}

const toggleTag = (name: string): void => {
  tagFilter.value = tagFilter.value.includes(name) ? tagFilter.value.filter((t) => t !== name) : [...tagFilter.value, name];
};

function Row({ d, selected }: { d: Doc; selected: boolean }) {
  return (
    <tr aria-selected={selected} onClick={() => go(paths.document(d.id))}>
      <td>
        <a class="doc-name" href={paths.document(d.id)} onClick={follow} title={d.filename}><Icon name={docIcon(d)} size={16} /><span class="cut">{d.filename}</span></a>
      </td>
      <td class="col-tags"><div class="doc-tags">{d.tags.map((t) => <span key={t} class="chip">{t}</span>)}</div></td>
      <td class="num size">{bytes(d.size_bytes)}</td>
      <td class="num" title={full(d.updated_at)}>{ago(d.updated_at, now.value)}</td>
    </tr>
  );
}

function Table({ id }: { id: string | null }) {
  const t = texts.documents;
  const list = docs.value;
  if (list === null) {
    return <div class="doc-skel" aria-hidden="true">{[220, 160, 260, 190, 140].map((w) => <div key={w}><Skeleton width={w} /><Skeleton width={70} /></div>)}</div>;
  }
  if (list.length === 0) {
    return filtered.value ? (
      <Blank icon="searchX" title={t.noMatch} text={t.noMatchHint}>
        <button type="button" class="btn" onClick={() => { nameFilter.value = ''; tagFilter.value = []; }}>{t.clear}</button>
      </Blank>
    ) : <Blank icon="files" title={t.none} text={t.noneHint} />;
  }
  return (
    <>
      <table class="doc-table">
        <thead><tr><th scope="col">{t.name}</th><th scope="col" class="c-tags">{t.tags}</th><th scope="col" class="num c-size">{t.size}</th><th scope="col" class="num c-time">{t.updated}</th></tr></thead>
        <tbody>{list.map((d) => <Row key={d.id} d={d} selected={d.id === id} />)}</tbody>
      </table>
      {more.value && <button type="button" class="btn show-more" onClick={() => readMore().catch(toastError)}>{t.more}</button>}
    </>
  );
}

function Uploads() {
  if (uploads.value.length === 0) return null;
  return (
    <ul class="uploads" aria-label={texts.documents.uploading(uploads.value.length)}>
      {uploads.value.map((u) => (
        <li key={u.id} data-state={u.state}>
          <Icon name={u.state === 'done' ? 'good' : u.state === 'failed' ? 'alert' : 'upload'} size={15} />
          <div class="cut">
            <span class="cut">{u.name}</span>
            {u.state === 'failed' ? <div class="failed cut" title={u.error}>{u.error}</div> : (
              <div class="bar" role="progressbar" aria-valuenow={Math.round(u.part * 100)} aria-valuemin={0} aria-valuemax={100} aria-label={u.name}><i style={{ width: `${u.part * 100}%` }} /></div>
            )}
          </div>
          <span class="num dim">{u.state === 'running' ? `${Math.round(u.part * 100)}%` : bytes(u.size)}</span>
          <IconButton icon="x" small label={u.state === 'running' ? texts.documents.cancelUpload(u.name) : texts.common.dismiss} onClick={() => (u.state === 'running' ? u.cancel() : dismissUpload(u.id))} />
        </li>
      ))}
    </ul>
  );
}

/** Files dragged over the view; dragenter and dragleave come for each child, so they are counted. */
function useDrop(onFiles: (files: FileList) => void) {
  const [over, setOver] = useState(false);
  const depth = useRef(0);
  const has = (e: DragEvent) => e.dataTransfer?.types.includes('Files') ?? false;
  return {
    over,
    handlers: {
      onDragEnter: (e: DragEvent) => {
        if (!has(e)) return;
        depth.current += 1;
        setOver(true);
      },
      onDragLeave: (e: DragEvent) => {
        if (!has(e)) return;
        depth.current -= 1;
        if (depth.current <= 0) setOver(false);
      },
      onDragOver: (e: DragEvent) => has(e) && e.preventDefault(),
      onDrop: (e: DragEvent) => {
        e.preventDefault();
        depth.current = 0;
        setOver(false);
        if (e.dataTransfer?.files.length) onFiles(e.dataTransfer.files);
      },
    },
  };
}

export function DocumentsView({ id }: { id: string | null }) {
  const t = texts.documents;
  const picker = useRef<HTMLInputElement>(null);
  const send = (files: Iterable<File>) => void uploadAll(files, tagFilter.value);
  const drop = useDrop(send);
  useEffect(() => watchDocuments(), []);
  const tags = tagCounts.value ?? [];
  const known = new Set(tags.map((x) => x.name));
  const chips = [...tags, ...tagFilter.value.filter((n) => !known.has(n)).map((name) => ({ name, count: 0 }))];
  return (
    <div class={`docs ${id ? 'open' : ''}`} {...drop.handlers}>
      <section class="docs-list" aria-label={t.title}>
        <header class="docs-head">
          <h1>{t.title}</h1>
          {docs.value && <span class="dim num">{t.total(docs.value.length, more.value)}</span>}
          <label class="search">
            <span class="sr">{t.search}</span>
            <Icon name="search" size={14} />
            <input class="input" type="search" placeholder={t.search} value={nameFilter.value} onInput={(e) => (nameFilter.value = e.currentTarget.value)} />
          </label>
          <button type="button" class="btn" onClick={() => picker.current?.click()}><Icon name="upload" size={15} />{t.upload}</button>
          <input ref={picker} type="file" multiple hidden data-upload onChange={(e) => { send([...(e.currentTarget.files ?? [])]); e.currentTarget.value = ''; }} />
        </header>
        {chips.length > 0 && (
          <div class="docs-tags scroll" role="group" aria-label={t.tags}>
            {chips.map((c) => (
              <button key={c.name} type="button" class="chip" aria-pressed={tagFilter.value.includes(c.name)} onClick={() => toggleTag(c.name)}>{c.name}<span class="n">{c.count}</span></button>
            ))}
            {filtered.value && <button type="button" class="btn plain small" onClick={() => { nameFilter.value = ''; tagFilter.value = []; }}><Icon name="x" size={13} />{t.clear}</button>}
          </div>
        )}
        <div class="docs-scroll scroll"><Table id={id} /></div>
        <Uploads />
      </section>
      {id && <Preview key={id} id={id} />}
      {drop.over && <div class="drop" aria-hidden="true"><Icon name="upload" size={30} />{t.drop}</div>}
    </div>
  );
}
