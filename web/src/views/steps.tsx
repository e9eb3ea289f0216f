/** Under the desktop: every step as one line; a click shows it in the conversation. */
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { clock, duration } from '../lib/format';
import { describe } from '../model/describe';
import type { ToolItem } from '../model/transcript';
import type { SessionStream } from '../state/stream';
import { texts } from '../texts';
import { Spinner } from '../ui/controls';
import { Icon } from '../ui/icons';
import { replayAt, replayTo } from './replay';
import { iconOf, isLost } from './tools';

function detail(item: ToolItem): string {
  const i = item.input;
  const s = typeof i.command === 'string' && item.name === 'bash' ? i.command : typeof i.path === 'string' ? i.path : '';
  return s.split('\n', 1)[0] ?? '';
}

/** Brings an entry of the conversation into view and marks it for a moment; a recording that is open goes there. */
function show({ key, at }: ToolItem): void {
  replayTo(at);
  document.querySelector('.flow')?.dispatchEvent(new CustomEvent('berth:reveal', { detail: key }));
  // It may have to be drawn first.
  requestAnimationFrame(() => {
    const el = document.querySelector<HTMLElement>(`[data-key="${CSS.escape(key)}"]`);
    if (!el) return;
    el.scrollIntoView({ block: 'center', behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth' });
    el.classList.remove('flash');
    requestAnimationFrame(() => el.classList.add('flash'));
  });
}

const ROW = 26;
const AROUND = 10;

function Row({ item, current }: { item: ToolItem; current: boolean }) {
  const d = describe(item.name, item.input, item.state === 'running');
  return (
    <li>
      <button type="button" data-state={item.state} aria-current={current ? 'step' : undefined} onClick={() => show(item)}>
        <time class="num">{clock(item.at)}</time>
        {item.state === 'running' ? <Spinner /> : <Icon name={iconOf(d)} size={14} />}
        <span class="cut"><span class="what">{d.title}</span>{detail(item) && <span class="mono">{detail(item)}</span>}</span>
        <span class="num end">{item.state === 'failed' ? <span class="bad">{isLost(item) ? texts.tools.interrupted : texts.tools.failed}</span> : item.durationMs !== null ? duration(item.durationMs) : ''}</span>
      </button>
    </li>
  );
}

export function Steps({ stream }: { stream: SessionStream }) {
  const list = useRef<HTMLOListElement>(null);
  const stick = useRef(true);
  const [top, setTop] = useState(0);
  const tools = stream.items.value.filter((i): i is ToolItem => i.kind === 'tool');
  useLayoutEffect(() => {
    if (stick.current && list.current) list.current.scrollTop = list.current.scrollHeight;
  }, [tools.length]);
  // While a recording plays: the last step that had begun by then, kept in view.
  const moment = replayAt.value;
  const current = moment === null ? -1 : tools.findLastIndex((i) => Date.parse(i.at) <= moment);
  const playing = moment !== null;
  useEffect(() => {
    if (!playing) stick.current = true;
  }, [playing]);
  useEffect(() => {
    const l = list.current;
    if (current < 0 || !l) return;
    stick.current = false;
    if (current * ROW < l.scrollTop || (current + 1) * ROW > l.scrollTop + l.clientHeight) l.scrollTop = (current + 0.5) * ROW - l.clientHeight / 2;
  }, [current]);
  // Rows are of one height: only those in view are drawn.
  const height = list.current?.clientHeight ?? 600;
  const first = Math.max(0, Math.min(Math.floor(top / ROW), tools.length - Math.ceil(height / ROW)) - AROUND);
  const last = Math.min(tools.length, first + Math.ceil(height / ROW) + 2 * AROUND);
  return (
    <div class="steps-log">
      <h2>{texts.steps.title}<span class="n">{tools.length}</span></h2>
      <ol
        ref={list} class="scroll"
        onScroll={(e) => {
          const l = e.currentTarget;
          stick.current = l.scrollHeight - l.scrollTop - l.clientHeight < ROW;
          setTop(l.scrollTop);
        }}
      >
        <li class="gap" style={{ height: `${first * ROW}px` }} aria-hidden="true" />
        {tools.slice(first, last).map((t, i) => <Row key={t.key} item={t} current={first + i === current} />)}
        <li class="gap" style={{ height: `${(tools.length - last) * ROW}px` }} aria-hidden="true" />
      </ol>
      {tools.length === 0 && <p class="dim">{texts.steps.none}</p>}
    </div>
  );
}
