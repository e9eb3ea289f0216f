/** Upload: a folder by drop or button, what to do with it, the live log of the run, its download. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { withTicket } from '../lib/api';
import { bytes, full } from '../lib/format';
import { follow, go, paths } from '../lib/router';
import { followLog, fromDrop, fromInput, join, start, type LogLine, type Picked } from '../state/runs';
import { toastError } from '../state/toasts';
import { texts } from '../texts';
import { Blank, IconButton } from '../ui/controls';
import { Icon } from '../ui/icons';

const SHOWN = 200;

function Card({ l }: { l: LogLine }) {
  const t = texts.upload;
  return (
    <li class="log-card" data-level={l.level} data-type={l.type}>
      <span class="chip">{l.type === 'log' ? l.level : t.kinds[l.type]}</span>
      <span class="text">{l.text}{l.data !== undefined && <pre class="scroll">{JSON.stringify(l.data, null, 2)}</pre>}</span>
      <time class="dim num" dateTime={l.time} title={full(l.time)}>{new Date(l.time).toLocaleTimeString()}</time>
    </li>
  );
}

function Run({ id }: { id: string }) {
  const t = texts.upload;
  const [lines, setLines] = useState<LogLine[]>([]);
  const [failed, setFailed] = useState<string | null>(null);
  useEffect(() => followLog(id, (l) => setLines((have) => [...have, l].slice(-1000)), (e) => setFailed(e instanceof Error ? e.message : String(e))), [id]);
  const download = async () => {
    const a = document.createElement('a');
    a.href = await withTicket(`/download/dataset-volume-${encodeURIComponent(id)}`);
    a.download = `dataset-volume-${id}.zip`;
    a.click();
  };
  return (
    <section class="run" aria-label={t.run}>
      <header class="docs-head">
        <h2 class="cut">{t.run} <code>{id}</code></h2>
        <a class="btn" href={paths.session(id)} onClick={follow}><Icon name="activity" size={15} />{t.open}</a>
        <button type="button" class="btn" onClick={() => download().catch(toastError)}><Icon name="download" size={15} />{t.download}</button>
      </header>
      {failed ? <Blank icon="searchX" title={failed} /> : (
        <ol class="log-cards scroll" aria-live="polite">
          {lines.length === 0 ? <li class="dim">{t.waiting}</li> : lines.map((l) => <Card key={l.seq} l={l} />)}
        </ol>
      )}
    </section>
  );
}

export function UploadView({ id }: { id: string | null }) {
  const t = texts.upload;
  const [files, setFiles] = useState<Picked[]>([]);
  const [context, setContext] = useState('');
  const [part, setPart] = useState<number | null>(null);
  const [over, setOver] = useState(false);
  const abort = useRef<AbortController | null>(null);
  const folder = useRef<HTMLInputElement>(null);
  const single = useRef<HTMLInputElement>(null);
  useEffect(() => () => abort.current?.abort(), []);
  const add = (more: Picked[]) => setFiles((have) => join(have, more));
  const size = files.reduce((n, p) => n + p.file.size, 0);
  const send = async () => {
    abort.current = new AbortController();
    setPart(0);
    try {
      const started = await start(files, context, setPart, abort.current.signal);
      setFiles([]);
      go(paths.run(started.session_id));
    } catch (e) {
      if (!abort.current.signal.aborted) toastError(e);
    } finally {
      setPart(null);
    }
  };
  const pick = (e: { currentTarget: HTMLInputElement }) => {
    add(fromInput([...(e.currentTarget.files ?? [])]));
    e.currentTarget.value = '';
  };
  return (
    <div class="page scroll full">
      <div class={`sheet upload-view ${id ? 'with-run' : ''}`}>
        <header class="sheet-head"><div><h1>{t.title}</h1><p class="dim">{t.lead}</p></div></header>
        <form class="upload-form" onSubmit={(e) => { e.preventDefault(); void send(); }}>
          <div class={`drop-zone ${over ? 'over' : ''}`} data-drop
            onDragOver={(e) => { e.preventDefault(); setOver(true); }} onDragLeave={() => setOver(false)}
            onDrop={(e) => { e.preventDefault(); setOver(false); if (e.dataTransfer) fromDrop(e.dataTransfer).then(add).catch(toastError); }}>
            <Icon name="upload" size={26} />
            <span>{t.drop}</span>
            <span class="row">
              <button type="button" class="btn" onClick={() => folder.current?.click()}>{t.folder}</button>
              <button type="button" class="btn" onClick={() => single.current?.click()}>{t.files}</button>
            </span>
            <input ref={folder} type="file" multiple hidden data-folder {...{ webkitdirectory: true }} onChange={pick} />
            <input ref={single} type="file" multiple hidden data-files onChange={pick} />
          </div>
          {files.length > 0 && (
            <div class="picked">
              <div class="row"><b>{t.count(files.length, bytes(size))}</b><button type="button" class="btn plain small" onClick={() => setFiles([])}><Icon name="x" size={13} />{t.clear}</button></div>
              <ul class="scroll">
                {files.slice(0, SHOWN).map((p) => (
                  <li key={p.path}><Icon name="file" size={14} /><span class="cut grow" title={p.path}>{p.path}</span><span class="num dim">{bytes(p.file.size)}</span>
                    <IconButton icon="x" small label={t.remove(p.path)} onClick={() => setFiles(files.filter((f) => f !== p))} /></li>
                ))}
                {files.length > SHOWN && <li class="dim">{t.more(files.length - SHOWN)}</li>}
              </ul>
            </div>
          )}
          <label class="context"><span>{t.context}</span>
            <textarea class="input" rows={5} maxLength={60000} placeholder={t.placeholder} value={context} onInput={(e) => setContext(e.currentTarget.value)} />
          </label>
          {part !== null && <div class="bar" role="progressbar" aria-valuenow={Math.round(part * 100)} aria-valuemin={0} aria-valuemax={100} aria-label={t.title}><i style={{ width: `${part * 100}%` }} /></div>}
          <div class="row">
            <button type="submit" class="btn primary" disabled={files.length === 0 || part !== null}><Icon name="play" size={15} />{part === null ? t.start : t.sending(Math.round(part * 100))}</button>
            {part !== null && <button type="button" class="btn" onClick={() => abort.current?.abort()}>{texts.common.cancel}</button>}
          </div>
        </form>
        {id && <Run key={id} id={id} />}
      </div>
    </div>
  );
}
