/** The button that has a video of the recording made: how far it is, calling it off, and the file at the end. */
import { useEffect, useState } from 'preact/hooks';
import { ApiError, getJson, postJson, request } from '../lib/api';
import { download } from '../lib/download';
import type { RecordingExport } from '../model/recording';
import { toast, toastError } from '../state/toasts';
import { texts } from '../texts';

const LOOK_MS = 1000;
const underWay = (e: RecordingExport | null): e is RecordingExport => e?.status === 'queued' || e?.status === 'running';

export function ExportButton({ id, known }: { id: string; known: RecordingExport[] }) {
  const t = texts.replay;
  const path = `/sessions/${encodeURIComponent(id)}/recording`;
  const [job, setJob] = useState<RecordingExport | null>(known.find(underWay) ?? null);
  const [asking, setAsking] = useState(false);

  useEffect(() => {
    if (!underWay(job)) return undefined;
    let go = true;
    const timer = window.setTimeout(() => {
      getJson<RecordingExport>(`${path}/exports/${job.export_id}`).then((next) => {
        if (!go) return;
        setJob(next);
        if (next.status === 'done' && next.url) {
          toast('good', t.exported, next.filename);
          void download(next.url, next.filename);
        } else if (next.status === 'failed') toast('error', t.exportFailed, next.error ?? undefined);
      }, (e: unknown) => go && setJob(e instanceof ApiError && e.status === 404 ? null : { ...job })); // not to be had now: looked for again
    }, LOOK_MS);
    return () => {
      go = false;
      clearTimeout(timer);
    };
  }, [job]);

  const ask = async () => {
    setAsking(true);
    try {
      if (underWay(job)) setJob((await (await request(`${path}/exports/${job.export_id}`, { method: 'DELETE' })).json()) as RecordingExport);
      else setJob(await postJson<RecordingExport>(`${path}/export`, { format: 'webm' }));
    } catch (e) {
      toastError(e);
    }
    setAsking(false);
  };

  const label = underWay(job) ? t.exporting(job.percent) : t.export;
  return <button type="button" class="btn small" data-export={job?.status ?? 'none'} disabled={asking} title={underWay(job) ? t.exportCancel : t.exportHint} onClick={() => void ask()}>{label}</button>;
}
