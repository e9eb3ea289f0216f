/** Every event of a session, as it was stored: filters, details as JSON, jump to a seq, export. */
import { useCallback, useMemo, useRef, useState } from 'preact/hooks';
import { clock, count, full, money } from '../lib/format';
import { describe } from '../model/describe';
import { amounts } from '../model/transcript';
import type { SessionStream } from '../state/stream';
import { texts } from '../texts';
import type { BerthEvent, Session, Usage } from '../types';
import { Blank, copyText, IconButton } from '../ui/controls';
import { Icon, type IconName } from '../ui/icons';
import { Code } from '../ui/code';
import { VirtualList, type Reach } from '../ui/virtual';
import { replayTo } from './replay';
import { fork } from './session-actions';

const ICONS: Record<string, IconName> = {
  message: 'message', thinking: 'sparkles', pre_tool: 'wrench', post_tool: 'check', screenshot: 'camera', status: 'activity', session_start: 'play', session_stop: 'stop', usage: 'coins', error: 'alert', approval_requested: 'shield',
  approval_decided: 'shield', control: 'hand', log: 'fileText', network_denied: 'globe', compaction: 'repeat', report: 'fileChart',
};
/** As high as in session.css; on a phone as high as a finger is (phone.css). */
const rowHeight = (): number => (matchMedia('(max-width: 820px)').matches ? 44 : 32);

const str = (v: unknown): string => (typeof v === 'string' ? v : '');

const spent = (u: Usage): string => {
  const cost = u.cost_usd ? ` · ${money(u.cost_usd)}` : '';
  return `${texts.session.usage(count(u.input_tokens ?? 0), count(u.output_tokens ?? 0))}${u.cache_read_tokens ? ` · ${texts.session.cached(count(u.cache_read_tokens))}` : ''}${cost}`;
};
const shot = (e: BerthEvent): string => (typeof e.width === 'number' ? texts.desktop.size(e.width, e.height as number) : str(e.url).split('/').at(-1)!.slice(0, 12));
/** What of a call its title leaves out. */
const doing = (input: unknown): string => {
  const i = (input ?? {}) as Record<string, unknown>;
  const more = str(i.command) && !str(i.path) ? str(i.command) : str(i.path) || str(i.query) || str(i.url);
  return more ? ` · ${more.replace(/\s+/g, ' ')}` : '';
};

/** One line that says what the event holds. */
export function gist(e: BerthEvent): string {
  const blocks = Array.isArray(e.content) ? (e.content as { type?: string; text?: string; name?: string }[]) : [];
  switch (e.event_type) {
    case 'message': return `${str(e.role)}: ${str(e.content) || blocks.map((b) => b?.text ?? (b?.name ? `[${b.name}]` : `[${b?.type ?? ''}]`)).join(' ')}`;
    case 'thinking': return str(e.content);
    case 'pre_tool': return describe(str(e.tool_name), (e.tool_input ?? {}) as Record<string, unknown>, true).title + doing(e.tool_input);
    case 'post_tool': return `${str(e.tool_name)}${e.error ? ` ${str(e.error)}` : ''}${typeof e.duration_ms === 'number' ? ` · ${e.duration_ms} ms` : ''}`;
    case 'status': return `${str(e.from)} → ${str(e.to)}${e.reason ? ` · ${str(e.reason)}` : ''}`;
    case 'error': case 'log': return str(e.message);
    case 'usage': return spent(amounts(e.usage));
    case 'screenshot': return shot(e);
    case 'approval_requested': case 'approval_decided': return [str(e.subject), str(e.status), str(e.note)].filter(Boolean).join(' · ');
    default: return str(e.reason) || str(e.summary) || str(e.url) || str(e.host);
  }
}

/** Without it, or with it when it was not there. */
function flip<K>(set: ReadonlySet<K>, k: K): Set<K> {
  const next = new Set(set);
  if (!next.delete(k)) next.add(k);
  return next;
}

function save(events: BerthEvent[], id: string): void {
  const a = document.createElement('a');
  a.href = URL.createObjectURL(new Blob(events.map((e) => `${JSON.stringify(e)}\n`), { type: 'application/x-ndjson' }));
  a.download = `session-${id}.jsonl`;
  a.click();
  setTimeout(() => URL.revokeObjectURL(a.href), 5000);
}

export function Timeline({ stream, session }: { stream: SessionStream; session: Session | undefined }) {
  const t = texts.timeline;
  const events = stream.events.value;
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [open, setOpen] = useState<ReadonlySet<string | number>>(new Set());
  const [follow, setFollow] = useState(true);
  const [seq, setSeq] = useState('');
  const reach = useRef<Reach | null>(null);
  const row = rowHeight();
  const counts = useMemo(() => {
    const n = new Map<string, number>();
    for (const e of events) n.set(e.event_type, (n.get(e.event_type) ?? 0) + 1);
    return [...n].sort((a, b) => b[1] - a[1]);
  }, [events]);
  const shown = useMemo(() => (hidden.size === 0 ? events : events.filter((e) => !hidden.has(e.event_type))), [events, hidden]);
  const jump = (e: Event) => {
    e.preventDefault();
    const n = Number(seq);
    if (!Number.isInteger(n) || n < 1) return;
    const i = shown.findIndex((x) => x.seq >= n);
    setFollow(false);
    reach.current?.to(i < 0 ? shown.length : i);
  };
  const draw = useCallback((e: BerthEvent, isOpen: boolean) => {
    const { type: _type, ...stored } = e;
    return (
      <div class="event" data-type={e.event_type} data-seq={e.seq}>
        <button type="button" class="event-line" aria-expanded={isOpen} onClick={() => { setFollow(false); setOpen((old) => flip(old, e.seq)); replayTo(e.timestamp); }}>
          <Icon name="chevron" size={12} class="chev" /><span class="num seq">{e.seq}</span><Icon name={ICONS[e.event_type] ?? 'hash'} size={14} /><span class="event-type">{e.event_type}</span>
          <span class="cut event-gist">{gist(e).slice(0, 300)}</span><time class="num dim" dateTime={e.timestamp} title={full(e.timestamp)}>{clock(e.timestamp)}</time>
        </button>
        {isOpen && (
          <div class="event-json">
            <pre class="scroll" tabIndex={0}><Code text={JSON.stringify(stored, null, 2)} language="json" /></pre>
            <IconButton icon="copy" small label={texts.common.copy} onClick={() => void copyText(JSON.stringify(stored, null, 2))} />
            {session && session.kind !== 'external' && <IconButton icon="fork" small label={texts.session.forkFrom} onClick={() => void fork(session, e.seq)} />}
          </div>
        )}
      </div>
    );
  }, [session]);
  const all = open.size > 0;
  return (
    <section class="timeline" aria-label={t.title}>
      <div class="timeline-bar">
        <div class="timeline-types" role="group" aria-label={t.types}>
          {counts.map(([type, n]) => <button key={type} type="button" class="type" aria-pressed={!hidden.has(type)} onClick={() => setHidden(flip(hidden, type))}><Icon name={ICONS[type] ?? 'hash'} size={13} />{type}<span class="n">{n}</span></button>)}
        </div>
        <div class="timeline-tools">
          <form onSubmit={jump}><input class="input num" inputMode="numeric" aria-label={t.jump} placeholder={t.seq} value={seq} onInput={(e) => setSeq(e.currentTarget.value)} /></form>
          <button type="button" class="btn small" onClick={() => { setFollow(false); setOpen(all ? new Set() : new Set(shown.map((e) => e.seq))); }}>{all ? t.fold : t.unfold}</button>
          <button type="button" class="btn small" disabled={shown.length === 0} onClick={() => save(shown, stream.id)}><Icon name="download" size={13} />{t.export}</button>
        </div>
      </div>
      {events.length === 0 && stream.caughtUp.value ? <Blank icon="tree" title={t.none} /> : (
        <VirtualList items={shown} keyOf={(e) => e.seq} row={row} open={open} draw={draw} label={t.title} class="events" reach={reach} follow={follow} onLeft={() => setFollow(false)} onEnd={() => setFollow(true)} />
      )}
      {!follow && <button type="button" class="btn small timeline-end" onClick={() => { setFollow(true); reach.current?.end(); }}><Icon name="down" size={14} />{texts.chat.latest}</button>}
    </section>
  );
}
