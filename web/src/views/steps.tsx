/** Under the desktop: every step as one line; a click shows it in the conversation. */
import { useLayoutEffect, useRef } from 'preact/hooks';
import { clock, duration } from '../lib/format';
import { describe } from '../model/describe';
import type { ToolItem } from '../model/transcript';
import type { SessionStream } from '../state/stream';
import { texts } from '../texts';
import { Spinner } from '../ui/controls';
import { Icon } from '../ui/icons';
import { iconOf, isLost } from './tools';

function detail(item: ToolItem): string {
  const i = item.input;
  const s = typeof i.command === 'string' && item.name === 'bash' ? i.command : typeof i.path === 'string' ? i.path : '';
  return s.split('\n', 1)[0] ?? '';
}

/** Brings an entry of the conversation into view and marks it for a moment. */
function show(key: string): void {
  const el = document.querySelector<HTMLElement>(`[data-key="${CSS.escape(key)}"]`);
  if (!el) return;
  el.closest('.flow')?.dispatchEvent(new Event('berth:release'));
  el.scrollIntoView({ block: 'center', behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth' });
  el.classList.remove('flash');
  requestAnimationFrame(() => el.classList.add('flash'));
}

function Row({ item }: { item: ToolItem }) {
  const d = describe(item.name, item.input, item.state === 'running');
  return (
    <li>
      <button type="button" data-state={item.state} onClick={() => show(item.key)}>
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
  const tools = stream.items.value.filter((i): i is ToolItem => i.kind === 'tool');
  useLayoutEffect(() => {
    if (stick.current && list.current) list.current.scrollTop = list.current.scrollHeight;
  }, [tools.length]);
  return (
    <div class="steps-log">
      <h2>{texts.steps.title}<span class="n">{tools.length}</span></h2>
      <ol
        ref={list} class="scroll"
        onScroll={(e) => {
          const l = e.currentTarget;
          stick.current = l.scrollHeight - l.scrollTop - l.clientHeight < 30;
        }}
      >
        {tools.map((t) => <Row key={t.key} item={t} />)}
      </ol>
      {tools.length === 0 && <p class="dim">{texts.steps.none}</p>}
    </div>
  );
}
