/** One entry of the conversation each: what was said, thought, done, and what changed. */
import { Component } from 'preact';
import { useState } from 'preact/hooks';
import { clock, full } from '../lib/format';
import type { Item, LiveBlock, ThinkingItem, UserItem } from '../model/transcript';
import type { SessionStream } from '../state/stream';
import { toastError } from '../state/toasts';
import { texts } from '../texts';
import { Boundary, Spinner } from '../ui/controls';
import { Icon } from '../ui/icons';
import { Picture } from '../ui/picture';
import { Prose } from '../ui/prose';
import { ApprovalCard } from './approval';
import { ShotButton, ToolCard } from './tools';

/** Finished blocks of a streaming text are rendered once; only the last one is rendered again with each delta. */
function StreamingProse({ text }: { text: string }) {
  const cut = text.lastIndexOf('\n\n');
  // Inside a fence a blank line ends nothing.
  const fences = cut > 0 ? text.slice(0, cut).split('\n').filter((l) => l.startsWith('```')).length : 0;
  if (cut <= 0 || fences % 2 === 1 || /^\s*(?:[-*+]|\d+\.)\s/m.test(text.slice(cut))) return <Prose text={text} streaming />;
  return <div><Prose text={text.slice(0, cut)} /><div class="stream-tail"><Prose text={text.slice(cut + 2)} streaming /></div></div>;
}

export function Said({ item, stream }: { item: UserItem; stream?: SessionStream }) {
  const t = texts.chat;
  return (
    <div class={`said ${item.send === 'failed' ? 'failed' : ''}`} title={item.send ? undefined : full(item.at)}>
      <span class="sr">{t.you}: </span>
      {item.blocks.map((b, i) => (b.type === 'text' ? <span key={i}>{b.text}</span> : b.type === 'image' ? <Picture key={i} image={b} alt="" /> : null))}
      {item.send === 'sending' && <div class="said-meta"><Spinner />{t.sending}</div>}
      {item.send === 'failed' && stream && (
        <div class="said-meta">
          <span>{t.failed}</span>
          <button type="button" onClick={() => stream.resend(item).catch(toastError)}>{t.resend}</button>
          <button type="button" onClick={() => stream.discard(item)}>{t.discard}</button>
        </div>
      )}
    </div>
  );
}

const gist = (text: string): string => {
  const line = text.trim().split('\n', 1)[0] ?? '';
  return line.length > 90 ? `${line.slice(0, 88)}…` : line;
};

function Thinking({ item }: { item: ThinkingItem }) {
  const [open, setOpen] = useState(false);
  return (
    <div class="think">
      <button type="button" aria-expanded={open} onClick={() => setOpen(!open)} title={clock(item.at)}>
        <Icon name="chevron" size={14} class="chev" />{texts.chat.thought}{!open && <span class="gist cut">· {gist(item.text)}</span>}
      </button>
      {open && <div class="think-text">{item.text}</div>}
    </div>
  );
}

/** What the model is saying right now. */
export function Live({ block }: { block: LiveBlock }) {
  const t = texts.chat;
  if (block.kind === 'text') return <div class="item"><StreamingProse text={block.text} /></div>;
  if (block.kind === 'thinking') {
    return (
      <div class="think" aria-busy="true">
        <span class="working"><span class="dots" aria-hidden="true"><i /><i /><i /></span>{t.thinking}</span>
        <div class="think-text">{block.text.length > 600 ? `…${block.text.slice(-600)}` : block.text}</div>
      </div>
    );
  }
  return <div class="ghost"><span><Spinner />{t.preparing}</span>{block.text.trim().length > 2 && <code>{block.text.slice(-300)}</code>}</div>;
}

function View({ item, all }: { item: Item; all: Item[] }) {
  switch (item.kind) {
    case 'user': return <Said item={item} />;
    case 'text': return <Prose text={item.text} />;
    case 'thinking': return <Thinking item={item} />;
    case 'tool': return <ToolCard item={item} all={all} />;
    case 'shot': return <ShotButton image={item.image} title={texts.tools.computer.screenshot} point={null} from={null} all={all} bare />;
    case 'status': {
      const moved = item.from === 'running' && (item.to === 'queued' || item.to === 'starting');
      return (
        <div class={`note-line ${item.to === 'failed' ? 'bad' : ''}`} title={item.reason || undefined}>
          {moved ? texts.chat.moved : (texts.chat.status[item.to] ?? item.to)} · {clock(item.at)}
        </div>
      );
    }
    case 'error':
      return <div class="fault" role="alert"><Icon name="alert" size={16} /><div><b>{item.message}</b>{item.code && <span class="dim mono">{item.code}</span>}</div></div>;
    case 'approval': return <ApprovalCard item={item} />;
    case 'summary': return <details class="summary"><summary>{texts.approval.summary}</summary><Prose text={item.text} /></details>;
    case 'log': return <div class="log"><span class="mono dim">{item.level}</span>{item.message}</div>;
  }
}

/** Drawn again only when its own item was replaced: the transcript never changes one in place. */
export class ItemView extends Component<{ item: Item; all: Item[]; far: boolean }> {
  override shouldComponentUpdate(next: { item: Item; far: boolean }): boolean {
    return next.item !== this.props.item || next.far !== this.props.far;
  }
  render() {
    const { item, all, far } = this.props;
    return <div class={`item ${far ? 'far' : ''}`} data-key={item.key} data-kind={item.kind} data-seq={item.seq} style={item.kind === 'user' ? { display: 'flex', flexDirection: 'column' } : undefined}><Boundary resetKey={item} line={texts.chat.broken(item.seq)}><View item={item} all={all} /></Boundary></div>;
  }
}
