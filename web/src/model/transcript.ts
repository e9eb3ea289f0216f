/**
 * A session's conversation, built from its stream of updates. Pure: no network, no DOM.
 * Each update is applied once by its seq; items are replaced, never changed, so that a view can compare by identity.
 */
import type { BerthEvent, Block, Delta, ImageBlock, ModelDelta, ToolDelta, Usage } from '../types';

export type ToolState = 'pending' | 'running' | 'done' | 'failed';

export interface UserItem { kind: 'user'; key: string; seq: number; at: string; blocks: Block[]; messageId: string | null; send?: 'sending' | 'failed' }
export interface TextItem { kind: 'text'; key: string; seq: number; at: string; text: string }
export interface ThinkingItem { kind: 'thinking'; key: string; seq: number; at: string; text: string }
export interface StatusItem { kind: 'status'; key: string; seq: number; at: string; from: string; to: string; reason: string }
export interface ErrorItem { kind: 'error'; key: string; seq: number; at: string; code: string; message: string }
export interface ShotItem { kind: 'shot'; key: string; seq: number; at: string; image: ImageBlock }
export interface LogItem { kind: 'log'; key: string; seq: number; at: string; level: string; message: string }
export interface ToolItem {
  kind: 'tool';
  key: string;
  seq: number;
  at: string;
  callId: string;
  name: string;
  input: Record<string, unknown>;
  state: ToolState;
  output: Block[];
  error: string | null;
  exitCode: number | null;
  durationMs: number | null;
  /** What it has printed so far, its newest part, while it runs. */
  printed: string;
}

/** What a person is asked to allow, and the answer. */
export interface ApprovalItem {
  kind: 'approval'; key: string; seq: number; at: string; sessionId: string; approvalId: string; approvalKind: string; subject: string;
  bound: Record<string, unknown>; expiresAt: string; status: string; note: string; by: string; decidedAt: string | null;
}
export interface SummaryItem { kind: 'summary'; key: string; seq: number; at: string; text: string }

export type Item = ApprovalItem | SummaryItem | UserItem | TextItem | ThinkingItem | StatusItem | ErrorItem | ShotItem | LogItem | ToolItem;

export interface LiveBlock { key: string; kind: ModelDelta['kind']; text: string }

const text = (v: unknown): string => (typeof v === 'string' ? v : '');
const record = (v: unknown): Record<string, unknown> => (v !== null && typeof v === 'object' && !Array.isArray(v) ? (v as Record<string, unknown>) : {});

/** The numbers of a usage, and only those: agents that run elsewhere send what they like. */
export const amounts = (v: unknown): Usage => Object.fromEntries(Object.entries(record(v)).filter(([, n]) => typeof n === 'number')) as Usage;

export function blocksOf(v: unknown): Block[] {
  if (typeof v === 'string') return v === '' ? [] : [{ type: 'text', text: v }];
  // Agents that run elsewhere send what they like: what is no block is passed over.
  return Array.isArray(v) ? (v.filter((b) => b !== null && typeof b === 'object' && typeof b.type === 'string' && (b.type !== 'text' || typeof b.text === 'string') && (b.type !== 'image' || b.url === undefined || typeof b.url === 'string')) as Block[]) : [];
}

const PRINTED_MOST = 32_768;

export class Transcript {
  items: Item[] = [];
  live: LiveBlock[] = [];
  lastSeq = 0;
  /** Grows whenever an item was added or replaced: deltas of the model's words change none. */
  changes = 0;
  /** The newest picture of the screen that an event brought. */
  lastImage: ImageBlock | null = null;
  status: string | null = null;
  usage: Usage | null = null;
  private readonly toolAt = new Map<string, number>();
  private readonly approvalAt = new Map<string, number>();
  private readonly shown = new Set<string>();

  /** Takes one update; false when it was known already. A gap is the caller's to notice (`seq > lastSeq + 1`). */
  apply(e: BerthEvent): boolean {
    if (e.seq <= this.lastSeq) return false;
    this.lastSeq = e.seq;
    this.changes += 1;
    switch (e.event_type) {
      case 'message': this.message(e); break;
      case 'thinking': this.thinking(e); break;
      case 'pre_tool': this.toolStarts(e); break;
      case 'post_tool': this.toolEnds(e); break;
      case 'screenshot': this.screenshot(e); break;
      case 'status': this.statusChange(e, text(e.from), text(e.to)); break;
      case 'session_start': break;
      case 'session_stop': this.stop(e); break;
      case 'usage': this.usage = amounts(e.total); break;
      case 'error': this.push({ kind: 'error', key: `e${e.seq}`, seq: e.seq, at: e.timestamp, code: text(e.code), message: text(e.message) || text(e.error) }); break;
      case 'approval_requested': this.asks(e); break;
      case 'approval_decided': this.decided(e); break;
      case 'compaction': this.push({ kind: 'summary', key: `c${e.seq}`, seq: e.seq, at: e.timestamp, text: text(e.summary) }); break;
      case 'log': this.push({ kind: 'log', key: `l${e.seq}`, seq: e.seq, at: e.timestamp, level: text(e.level), message: text(e.message) }); break;
      default: break;
    }
    return true;
  }

  private asks(e: BerthEvent): void {
    this.approvalAt.set(text(e.approval_id), this.items.length);
    this.push({
      kind: 'approval', key: `a${e.seq}`, seq: e.seq, at: e.timestamp, sessionId: e.session_id, approvalId: text(e.approval_id), approvalKind: text(e.kind), subject: text(e.subject),
      bound: record(e.bound), expiresAt: text(e.expires_at), status: 'pending', note: '', by: '', decidedAt: null,
    });
  }

  private decided(e: BerthEvent): void {
    const at = this.approvalAt.get(text(e.approval_id));
    const old = at === undefined ? undefined : this.items[at];
    if (at === undefined || old?.kind !== 'approval') return;
    this.items[at] = { ...old, status: text(e.status), note: text(e.note), by: text(e.decided_by), decidedAt: e.timestamp };
  }

  delta(d: Delta): void {
    if (d.kind === 'tool_output') {
      this.printed(d);
      return;
    }
    const key = `${d.turn}:${d.block}`;
    const i = this.live.findIndex((b) => b.key === key);
    const old = this.live[i];
    if (old) this.live = this.live.with(i, { ...old, kind: d.kind, text: old.text + d.text });
    else this.live = [...this.live, { key, kind: d.kind, text: d.text }];
  }

  private printed(d: ToolDelta): void {
    const at = this.toolAt.get(d.tool_call_id);
    if (at === undefined) return;
    const old = this.items[at] as ToolItem;
    if (old.state !== 'running') return;
    this.changes += 1;
    this.items[at] = { ...old, printed: (old.printed + text(d.text)).slice(-PRINTED_MOST) };
  }

  /** What was streamed but never finished (the link or the worker was lost): it comes again, whole. */
  dropLive(): void {
    if (this.live.length > 0) this.live = [];
  }

  private push(item: Item): void {
    this.items.push(item);
  }

  private message(e: BerthEvent): void {
    const blocks = blocksOf(e.content);
    if (e.role === 'assistant') {
      this.dropLive();
      blocks.forEach((b, i) => {
        if (b.type === 'text' && b.text.trim() !== '') this.push({ kind: 'text', key: `m${e.seq}.${i}`, seq: e.seq, at: e.timestamp, text: b.text });
        if (b.type === 'tool_use') this.tool(e, b.id, b.name, record(b.input), 'pending');
      });
      return;
    }
    // Tool results come as post_tool events; a message that holds nothing else is the model's side of the same thing.
    const said = blocks.filter((b) => b.type === 'text' || b.type === 'image');
    if (said.length === 0) return;
    this.push({ kind: 'user', key: `m${e.seq}`, seq: e.seq, at: e.timestamp, blocks: said, messageId: text(e.message_id) || null });
  }

  private thinking(e: BerthEvent): void {
    this.live = this.live.filter((b) => b.kind !== 'thinking');
    const said = text(e.content) || text(e.thinking) || text(e.message);
    if (said.trim() !== '') this.push({ kind: 'thinking', key: `t${e.seq}`, seq: e.seq, at: e.timestamp, text: said });
  }

  private tool(e: BerthEvent, callId: string, name: string, input: Record<string, unknown>, state: ToolState): void {
    const at = this.toolAt.get(callId);
    const known = at === undefined ? undefined : (this.items[at] as ToolItem);
    // Ids are unique for real models; a scripted one may say the same again: then it is another call.
    if (at === undefined || known?.state === 'done' || known?.state === 'failed') {
      this.toolAt.set(callId, this.items.length);
      this.push({ kind: 'tool', key: known ? `c${callId}.${e.seq}` : `c${callId}`, seq: e.seq, at: e.timestamp, callId, name, input, state, output: [], error: null, exitCode: null, durationMs: null, printed: '' });
      return;
    }
    const old = known as ToolItem;
    this.items[at] = { ...old, at: e.timestamp, name: name || old.name, input: Object.keys(input).length > 0 ? input : old.input, state };
  }

  private toolStarts(e: BerthEvent): void {
    const id = text(e.tool_call_id) || `seq${e.seq}`;
    this.tool(e, id, text(e.tool_name), record(e.tool_input), 'running');
  }

  private toolEnds(e: BerthEvent): void {
    const id = text(e.tool_call_id) || `seq${e.seq}`;
    if (!this.toolAt.has(id)) this.tool(e, id, text(e.tool_name), record(e.tool_input), 'running');
    const at = this.toolAt.get(id)!;
    const old = this.items[at] as ToolItem;
    const error = text(e.error) || null;
    const output = blocksOf(e.tool_output);
    for (const b of output) if (b.type === 'image') this.saw(b);
    const had = old.output.filter((b) => b.type === 'image' && !output.some((o) => o.type === 'image' && o.url === b.url));
    this.items[at] = {
      ...old,
      state: error ? 'failed' : 'done',
      output: [...output, ...(output.some((b) => b.type === 'image') ? [] : had)],
      error,
      printed: '',
      exitCode: typeof e.exit_code === 'number' ? e.exit_code : null,
      durationMs: typeof e.duration_ms === 'number' ? e.duration_ms : null,
    };
  }

  private saw(image: ImageBlock): void {
    this.lastImage = image;
    if (image.url) this.shown.add(image.url);
  }

  /** A screenshot belongs to its tool call where it has one; the same picture is never shown twice in a row. */
  private screenshot(e: BerthEvent): void {
    const image: ImageBlock = {
      type: 'image', url: text(e.url), media_type: text(e.media_type),
      width: typeof e.width === 'number' ? e.width : undefined, height: typeof e.height === 'number' ? e.height : undefined,
    };
    if (!image.url) return;
    const at = this.toolAt.get(text(e.tool_call_id));
    if (at !== undefined) {
      const old = this.items[at] as ToolItem;
      if (!old.output.some((b) => b.type === 'image')) this.items[at] = { ...old, output: [...old.output, image] };
    } else if (!this.shown.has(image.url)) this.push({ kind: 'shot', key: `p${e.seq}`, seq: e.seq, at: e.timestamp, image });
    this.saw(image);
  }

  private statusChange(e: BerthEvent, from: string, to: string): void {
    this.status = to;
    if (to !== 'running') this.dropLive();
    if (to === 'stopped' || to === 'failed' || to === 'finished' || to === 'paused' || (from === 'running' && (to === 'queued' || to === 'starting'))) {
      const last = this.items.at(-1);
      if (last?.kind === 'status' && last.to === to) return;
      this.push({ kind: 'status', key: `s${e.seq}`, seq: e.seq, at: e.timestamp, from, to, reason: text(e.reason) });
    }
    if (to === 'stopped' || to === 'failed') this.closeTools();
  }

  private stop(e: BerthEvent): void {
    this.dropLive();
    const to = text(e.status) || text(e.to);
    if (to && to !== this.status) this.statusChange(e, this.status ?? '', to);
  }

  /** After the end no call is running any more, whatever its last word was. */
  private closeTools(): void {
    for (const at of this.toolAt.values()) {
      const t = this.items[at] as ToolItem;
      if (t.state === 'running' || t.state === 'pending') this.items[at] = { ...t, state: 'failed', error: t.error ?? 'interrupted' };
    }
  }
}
