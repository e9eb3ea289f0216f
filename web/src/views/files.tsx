/** The files of a session's slot: folders, download, upload, delete. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { ApiError, getJson, request, withTicket } from '../lib/api';
import { ago, bytes, full } from '../lib/format';
import { now } from '../state/clock';
import { toast, toastError } from '../state/toasts';
import { texts } from '../texts';
import type { Session } from '../types';
import { Blank, Confirm, IconButton, Skeleton, Spinner } from '../ui/controls';
import { Icon } from '../ui/icons';

interface Entry { name: string; kind: 'file' | 'folder' | 'link' | 'other'; size_bytes: number; modified_at: string }
interface Listing { path: string; entries: Entry[]; truncated: boolean }

const url = (id: string, path: string): string => `/sessions/${encodeURIComponent(id)}/files/${path.split('/').map(encodeURIComponent).join('/')}`;
const within = (path: string, name: string): string => (path === '' ? name : `${path}/${name}`);

export function Files({ session: s }: { session: Session }) {
  const t = texts.files;
  const id = s.session_id;
  const [path, setPath] = useState('');
  const [list, setList] = useState<Listing | null>(null);
  const [failed, setFailed] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const [removing, setRemoving] = useState<string | null>(null);
  const picker = useRef<HTMLInputElement>(null);
  const wanted = useRef('');
  const load = async (p: string) => {
    wanted.current = p;
    setFailed(null);
    try {
      const found = await getJson<Listing>(url(id, p));
      if (wanted.current === p) setList(found);
    } catch (e) {
      if (wanted.current !== p) return;
      setList(null);
      setFailed(e instanceof ApiError ? e.message : String(e));
    }
  };
  useEffect(() => {
    void load(path);
  }, [path, id, s.worker_id]);
  const open = (p: string) => {
    setList(null);
    setPath(p);
  };
  const download = async (p: string) => {
    const a = document.createElement('a');
    a.href = await withTicket(url(id, p));
    a.download = p.split('/').at(-1) ?? 'file';
    a.click();
  };
  const put = async (files: Iterable<File>) => {
    setBusy(true);
    try {
      for (const f of files) {
        await request(url(id, within(path, f.name)), { method: 'PUT', bytes: f });
        toast('good', t.stored(f.name));
      }
    } catch (e) {
      toastError(e);
    }
    setBusy(false);
    await load(path);
  };
  const parts = path === '' ? [] : path.split('/');
  const entries = [...(list?.entries ?? [])].sort((a, b) => Number(b.kind === 'folder') - Number(a.kind === 'folder') || a.name.localeCompare(b.name));
  return (
    <section class="slot-files" aria-label={t.tab} onDragOver={(e) => e.preventDefault()} onDrop={(e) => { e.preventDefault(); void put(e.dataTransfer?.files ?? []); }}>
      <div class="files-bar">
        <nav class="crumbs" aria-label={t.path}>
          <button type="button" onClick={() => open('')}><Icon name="folder" size={14} />{t.home}</button>
          {parts.map((p, i) => <button key={i} type="button" class="cut" onClick={() => open(parts.slice(0, i + 1).join('/'))}>/ {p}</button>)}
        </nav>
        <IconButton icon="refresh" small label={t.refresh} onClick={() => void load(path)} />
        <button type="button" class="btn small" disabled={busy || list === null} onClick={() => picker.current?.click()}>{busy ? <Spinner /> : <Icon name="upload" size={13} />}{t.upload}</button>
        <input ref={picker} data-slot-upload type="file" multiple hidden onChange={(e) => { void put([...(e.currentTarget.files ?? [])]); e.currentTarget.value = ''; }} />
      </div>
      {failed && <Blank icon="folderOpen" title={t.cannot} text={failed}><button type="button" class="btn" onClick={() => void load(path)}>{texts.common.retry}</button></Blank>}
      {!failed && list === null && <div class="sheet-wait files-wait" aria-hidden="true"><Skeleton width="70%" /><Skeleton width="55%" /><Skeleton width="62%" /></div>}
      {list && entries.length === 0 && <Blank icon="folderOpen" title={t.empty} text={t.emptyHint} />}
      {list && entries.length > 0 && (
        <ul class="files-list scroll" tabIndex={0} aria-label={t.tab}>
          {entries.map((e) => (
            <li key={e.name} data-file={e.name}>
              <button type="button" class="file-name" disabled={e.kind === 'link' || e.kind === 'other'} onClick={() => (e.kind === 'folder' ? open(within(path, e.name)) : void download(within(path, e.name)).catch(toastError))}>
                <Icon name={e.kind === 'folder' ? 'folder' : e.kind === 'link' ? 'link' : 'file'} size={15} /><span class="cut">{e.name}</span>
              </button>
              <span class="dim num">{e.kind === 'file' ? bytes(e.size_bytes) : ''}</span>
              <time class="dim" dateTime={e.modified_at} title={full(e.modified_at)}>{ago(e.modified_at, now.value)}</time>
              <IconButton icon="trash" small label={t.remove(e.name)} onClick={() => setRemoving(e.name)} />
            </li>
          ))}
          {list.truncated && <li class="dim">{t.truncated}</li>}
        </ul>
      )}
      {removing !== null && (
        <Confirm
          title={t.removeTitle} text={t.removeText(removing)} action={texts.common.delete} onClose={() => setRemoving(null)}
          onConfirm={async () => {
            try {
              await request(url(id, within(path, removing)), { method: 'DELETE' });
              setRemoving(null);
              await load(path);
            } catch (e) {
              toastError(e);
            }
          }}
        />
      )}
    </section>
  );
}
