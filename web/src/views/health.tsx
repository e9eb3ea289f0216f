/** Health: daemons, workers with their slots, load, and limits that were proven or not. */
import { useEffect, useState } from 'preact/hooks';
import { getJson, request } from '../lib/api';
import { ago, bytes, count, duration, full } from '../lib/format';
import { follow, paths } from '../lib/router';
import { now } from '../state/clock';
import { sessions } from '../state/feed';
import { status } from '../state/system';
import { toast, toastError } from '../state/toasts';
import { texts } from '../texts';
import { Blank, Confirm, Skeleton, Spinner } from '../ui/controls';
import { Icon } from '../ui/icons';

interface LimitProof { by?: string; proven?: boolean; max?: number; why?: string }
interface Worker {
  worker_id: string; state: string; kind: string; kinds: string[]; online: boolean; draining: boolean; version?: string; session_id: string | null; slot?: { kind?: string; image?: string; progress?: string; width?: number; height?: number };
  load?: { processes?: number; memory_bytes?: number; cpu_usec?: number; memory_kills?: number }; limits?: Record<string, LimitProof | string>; greeted_at?: string; heartbeat_at?: string;
}

const EVERY = 4000;
const proofs = (w: Worker): [string, LimitProof][] => Object.entries(w.limits ?? {}).filter((e): e is [string, LimitProof] => typeof e[1] === 'object' && e[1] !== null && 'proven' in e[1]);

function most(name: string, max: number | undefined): string {
  if (!max) return '';
  if (name === 'memory' || name === 'disk') return bytes(max);
  return name === 'cpu' ? `${max} %` : count(max);
}

function Limits({ w }: { w: Worker }) {
  const t = texts.health;
  const all = proofs(w);
  const not = all.filter(([, l]) => !l.proven).length;
  if (all.length === 0) return null;
  return (
    <details class="limits">
      <summary data-ok={not === 0}><Icon name={not === 0 ? 'shield' : 'warn'} size={14} />{not === 0 ? t.allProven : t.someNot(not)}</summary>
      <table class="limits-table">
        <tbody>
          {all.map(([name, l]) => (
            <tr key={name}>
              <th scope="row">{t.limitNames[name] ?? name}</th><td class="num">{most(name, l.max)}</td><td class="dim">{l.by ? t.by(l.by) : ''}</td>
              <td class="proof" data-proven={l.proven} title={l.why ?? (l.proven ? t.provenHint : t.notProvenHint)}><Icon name={l.proven ? 'check' : 'x'} size={13} />{l.proven ? t.proven : t.notProven}{l.why && <span class="dim why">{l.why}</span>}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}

function Load({ w }: { w: Worker }) {
  const t = texts.health;
  const limit = w.limits?.memory;
  const max = typeof limit === 'object' ? limit.max : undefined;
  const used = w.load?.memory_bytes ?? 0;
  const part = max ? Math.min(1, used / max) : 0;
  return (
    <dl class="load">
      <div><dt>{t.memory}</dt><dd class="num">{bytes(used)}{max ? ` / ${bytes(max)}` : ''}{max && <span class="meter" data-level={part > 0.9 ? 'full' : part > 0.75 ? 'high' : 'fine'} role="meter" aria-label={t.memory} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(part * 100)}><i style={{ width: `${part * 100}%` }} /></span>}</dd></div>
      <div><dt>{t.processes}</dt><dd class="num">{w.load?.processes ?? 0}</dd></div>
      <div><dt>{t.cpu}</dt><dd class="num">{duration((w.load?.cpu_usec ?? 0) / 1000)}</dd></div>
    </dl>
  );
}

function Card({ w, onDrain }: { w: Worker; onDrain: () => void }) {
  const t = texts.health;
  const s = w.session_id ? sessions.value.get(w.session_id) : undefined;
  const state = w.online ? w.state : 'offline';
  return (
    <li class="worker" data-worker={w.worker_id} data-state={state}>
      <header>
        <b class="cut">{t.worker(w.worker_id)}</b>
        <span class="w-state" data-state={state}><i aria-hidden="true" />{w.online ? (t.states[w.state] ?? w.state) : t.offline}</span>
        {w.draining && <span class="chip">{t.draining}</span>}
        <span class="grow" />
        {w.online && !w.draining && <button type="button" class="btn small plain" onClick={onDrain}>{t.drain}</button>}
      </header>
      {w.online && w.slot?.kind && ['warm', 'creating', 'resetting'].includes(w.state) && <p class="w-warm">{t.keeps(texts.kinds[w.slot.kind] ?? w.slot.kind, w.state === 'warm')}{w.slot.image && <span class="dim"> · {w.slot.image}</span>}</p>}
      {w.online && w.slot?.progress && <p class="w-warm" role="status"><Spinner /> {w.slot.progress}</p>}
      <p class="dim w-about">{(w.kinds ?? [w.kind]).map((k) => texts.kinds[k] ?? k).join(', ')}{w.version ? ` · ${w.version}` : ''} · <time dateTime={w.heartbeat_at} title={full(w.heartbeat_at ?? '')}>{t.heard(ago(w.heartbeat_at ?? '', now.value))}</time></p>
      <p class="w-session cut">{t.session}: {w.session_id ? <a href={paths.session(w.session_id)} onClick={follow}>{s?.session_name || w.session_id}</a> : <span class="dim">{t.free}</span>}</p>
      {w.online && <Load w={w} />}
      {(w.load?.memory_kills ?? 0) > 0 && <p class="w-warn"><Icon name="warn" size={13} />{t.kills(w.load!.memory_kills!)}</p>}
      <Limits w={w} />
    </li>
  );
}

/** How the targets of the pool stand; nothing where it has none. */
function Warm() {
  const t = texts.health;
  const targets = status.value?.warm ?? [];
  if (targets.length === 0) return null;
  return (
    <ul class="warm" aria-label={t.warm}>
      {targets.map((w) => (
        <li key={`${w.kind}@${w.image ?? ''}`} data-kind={w.kind} data-met={w.ready >= w.target}>
          <Icon name={w.ready >= w.target ? 'check' : 'clock'} size={13} /><b>{texts.kinds[w.kind] ?? w.kind}</b>{w.image && <span class="dim cut">{w.image}</span>}
          <span class="num">{t.warmOf(w.ready, w.target)}</span>{w.why && <span class="dim">{w.why}</span>}
        </li>
      ))}
    </ul>
  );
}

export function HealthView() {
  const t = texts.health;
  const [workers, setWorkers] = useState<Worker[] | null>(null);
  const [failed, setFailed] = useState(false);
  const [draining, setDraining] = useState<string | null>(null);
  const load = () => getJson<{ workers: Worker[] }>('/workers').then((r) => {
    setWorkers(r.workers);
    setFailed(false);
  });
  useEffect(() => {
    load().catch((e: unknown) => {
      setFailed(true);
      toastError(e);
    });
    // Looked at again quietly: a gateway that is away is told by the connection light.
    const timer = setInterval(() => document.visibilityState === 'visible' && load().catch(() => undefined), EVERY);
    return () => clearInterval(timer);
  }, []);
  const busy = workers?.filter((w) => w.online && w.session_id).length ?? 0;
  const up = status.value?.uptime_seconds;
  return (
    <div class="page scroll full">
      <div class="sheet">
        <header class="sheet-head"><div><h1>{t.title}</h1><p class="dim">{t.lead}</p></div></header>
        <section aria-labelledby="health-daemons">
          <h2 class="section-title" id="health-daemons">{t.daemons}{typeof up === 'number' && <span class="n">{t.uptime(duration(up * 1000))}</span>}</h2>
          <ul class="daemons">
            {(status.value?.daemons ?? []).map((d) => <li key={d.name} data-ok={d.ok !== false}><i aria-hidden="true" /><b class="cut">{d.name}</b><span class="dim">{d.ok === false ? texts.system.down : (d.version ?? texts.system.up)}</span></li>)}
          </ul>
        </section>
        <section aria-labelledby="health-workers">
          <h2 class="section-title" id="health-workers">{t.workers}{workers && <span class="n">{t.counts(busy, workers.filter((w) => w.online).length)}</span>}</h2>
          <Warm />
          {workers === null && !failed && <div class="sheet-wait"><Skeleton width="100%" height={140} /></div>}
          {failed && <Blank icon="unplug" title={t.refused}><button type="button" class="btn" onClick={() => load().catch(toastError)}>{texts.common.retry}</button></Blank>}
          {workers?.length === 0 && <Blank icon="server" title={t.none} text={t.noneHint} />}
          <ul class="workers">{workers?.map((w) => <Card key={w.worker_id} w={w} onDrain={() => setDraining(w.worker_id)} />)}</ul>
        </section>
      </div>
      {draining && (
        <Confirm
          title={t.drainTitle} text={t.drainText(draining)} action={t.drain} onClose={() => setDraining(null)}
          onConfirm={async () => {
            try {
              await request(`/workers/${encodeURIComponent(draining)}/drain`, { method: 'POST' });
              setDraining(null);
              toast('good', t.drained);
              await load();
            } catch (e) {
              toastError(e);
            }
          }}
        />
      )}
    </div>
  );
}
