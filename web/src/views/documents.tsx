/** Documents: list with tags and search, uploads by button and drop, preview beside it. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { ago, bytes, full } from '../lib/format';
import { follow, go, paths } from '../lib/router';
import { extension, fileKind, type FileKind } from '../model/filetype';
import { now } from '../state/clock';
import { dismissUpload, docs, filtered, filterTags, found, foundMore, moreFound, offset, PAGE, query, select, selected, sort, SORTS, tagFilter, tagSelected, total, uploadAll, uploads, watchDocuments, type Sort } from '../state/documents';
import { toast, toastError } from '../state/toasts';
import { texts } from '../texts';
import type { Doc, Found } from '../types';
import { Blank, IconButton, Skeleton } from '../ui/controls';
import { Icon, type IconName } from '../ui/icons';
import { Ask } from './ask';
import { Marked } from './marked';
import { Preview } from './preview';
import { TagCombo } from './tag-combo';

const ICONS: Record<FileKind, IconName> = { image: 'fileImage', markdown: 'fileText', json: 'fileJson', csv: 'fileSheet', markup: 'fileCode', pdf: 'fileText', office: 'fileText', text: 'fileText', none: 'file' };

function docIcon(d: Doc): IconName {
  const kind = fileKind(d);
  return kind === 'text' && !['txt', 'log', ''].includes(extension(d.filename)) ? 'fileCode' : ICONS[kind];
}

const clear = (): void => {
  query.value = '';
  filterTags([]);
};

function Row({ d, shown }: { d: Doc; shown: boolean }) {
  return (
    <tr aria-selected={shown} onClick={() => go(paths.document(d.id))}>
      <td class="col-check" onClick={(e) => e.stopPropagation()}><label><input type="checkbox" aria-label={texts.documents.selectOne(d.filename)} checked={selected.value.has(d.id)} onChange={(e) => select(d.id, e.currentTarget.checked)} /></label></td>
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
        <button type="button" class="btn" onClick={clear}>{t.clear}</button>
      </Blank>
    ) : <Blank icon="files" title={t.none} text={t.noneHint} />;
  }
  const all = list.every((d) => selected.value.has(d.id));
  return (
    <>
      <table class="doc-table">
        <thead>
          <tr>
            <th scope="col" class="col-check"><label><input type="checkbox" aria-label={t.selectAll} checked={all} onChange={(e) => (selected.value = new Set(e.currentTarget.checked ? [...selected.value, ...list.map((d) => d.id)] : []))} /></label></th>
            <th scope="col">{t.name}</th><th scope="col" class="c-tags">{t.tags}</th><th scope="col" class="num c-size">{t.size}</th><th scope="col" class="num c-time">{t.updated}</th>
          </tr>
        </thead>
        <tbody>{list.map((d) => <Row key={d.id} d={d} shown={d.id === id} />)}</tbody>
      </table>
      {total.value > PAGE && (
        <nav class="pager" aria-label={t.title}>
          <IconButton icon="chevron" label={t.before} disabled={offset.value === 0} onClick={() => (offset.value = Math.max(0, offset.value - PAGE))} />
          <span class="num">{t.range(offset.value + 1, offset.value + list.length, total.value)}</span>
          <IconButton icon="chevron" label={t.after} disabled={offset.value + list.length >= total.value} onClick={() => (offset.value += PAGE)} />
        </nav>
      )}
    </>
  );
}

function Hit({ f, shown }: { f: Found; shown: boolean }) {
  return (
    <li aria-current={shown ? 'true' : undefined}>
      <a class="doc-name" href={paths.document(f.id)} onClick={follow} title={f.filename}>
        <Icon name={docIcon(f.document)} size={16} /><span class="cut">{f.filename}</span>
        {f.page !== null && <span class="dim num">{texts.documents.page(f.page)}</span>}
        <span class="doc-tags">{f.document.tags.slice(0, 3).map((x) => <span key={x} class="chip">{x}</span>)}</span>
      </a>
      {f.passage !== null && <p><Marked html={f.highlight} /></p>}
    </li>
  );
}

function Results({ id }: { id: string | null }) {
  const t = texts.documents;
  const list = found.value!;
  if (list.length === 0) return <Blank icon="searchX" title={t.noMatch} text={t.noMatchHint}><button type="button" class="btn" onClick={clear}>{t.clear}</button></Blank>;
  return (
    <>
      <ol class="hits">{list.map((f) => <Hit key={f.id} f={f} shown={f.id === id} />)}</ol>
      {foundMore.value && <button type="button" class="btn show-more" onClick={() => moreFound().catch(toastError)}>{t.more}</button>}
    </>
  );
}

/** What can be done with all that are selected. */
function Bulk() {
  const t = texts.documents;
  const n = selected.value.size;
  if (n === 0) return null;
  const edit = (change: { add?: string[]; remove?: string[] }) => tagSelected(change).then((done) => toast('good', t.bulkDone(done)), toastError);
  return (
    <div class="bulk" role="group" aria-label={t.selected(n)}>
      <b class="num">{t.selected(n)}</b>
      <TagCombo label={t.bulkAdd} without={[]} fresh onPick={(x) => void edit({ add: [x] })} />
      <TagCombo label={t.bulkRemove} without={[]} onPick={(x) => void edit({ remove: [x] })} />
      <IconButton icon="x" label={t.selectNone} onClick={() => (selected.value = new Set())} />
    </div>
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
  const [asking, setAsking] = useState(false);
  const searching = found.value !== null && query.value.trim() !== '';
  return (
    <div class={`docs ${id ? 'open' : ''}`} {...drop.handlers}>
      <section class="docs-list" aria-label={t.title}>
        <header class="docs-head">
          <h1>{t.title}</h1>
          {docs.value && <span class="dim num" role="status">{searching ? t.found(found.value!.length, foundMore.value !== null) : t.total(total.value)}</span>}
          <label class="search">
            <span class="sr">{t.search}</span>
            <Icon name="search" size={14} />
            <input class="input" type="search" placeholder={t.search} maxLength={500} value={query.value} onInput={(e) => { setAsking(false); query.value = e.currentTarget.value; }} />
          </label>
          <button type="button" class="btn" aria-pressed={asking} title={t.askTitle} onClick={() => setAsking(!asking)}><Icon name="sparkles" size={15} />{t.ask}</button>
          <button type="button" class="btn" onClick={() => picker.current?.click()}><Icon name="upload" size={15} />{t.upload}</button>
          <input ref={picker} type="file" multiple hidden data-upload onChange={(e) => { send([...(e.currentTarget.files ?? [])]); e.currentTarget.value = ''; }} />
        </header>
        <div class="docs-tags" role="group" aria-label={t.tags}>
          <TagCombo label={t.tagFilter} without={tagFilter.value} onPick={(x) => filterTags([...tagFilter.value, x])} />
          {tagFilter.value.map((x) => <span key={x} class="chip">{x}<IconButton icon="x" small size={11} label={t.removeTag(x)} onClick={() => filterTags(tagFilter.value.filter((y) => y !== x))} /></span>)}
          {filtered.value && <button type="button" class="btn plain small" onClick={clear}><Icon name="x" size={13} />{t.clear}</button>}
          {!asking && !searching && (
            <label class="sort">
              <span class="sr">{t.sort}</span>
              <select class="input" value={sort.value} onChange={(e) => { offset.value = 0; sort.value = e.currentTarget.value as Sort; }}>{SORTS.map((x) => <option key={x} value={x}>{t.sorts[x]}</option>)}</select>
            </label>
          )}
        </div>
        <Bulk />
        <div class="docs-scroll scroll" tabIndex={0}>{asking ? <Ask first={query.value} /> : searching ? <Results id={id} /> : <Table id={id} />}</div>
        <Uploads />
      </section>
      {id && <Preview key={id} id={id} />}
      {drop.over && <div class="drop" aria-hidden="true"><Icon name="upload" size={30} />{t.drop}</div>}
    </div>
  );
}
