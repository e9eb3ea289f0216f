/** One session's stream: transcript, exact resume by seq, messages being sent. One instance per open session view. */
import { batch, signal } from '@preact/signals';
import { ApiError, getJson, postJson } from '../lib/api';
import { LiveSocket, type Link } from '../lib/socket';
import { Transcript, type Item, type LiveBlock, type UserItem } from '../model/transcript';
import type { BerthEvent, Delta, ImageBlock, Session, SessionStatus, Usage } from '../types';
import { historyEpoch, ofEpoch, patchSession, positionLost, sessions } from './feed';

const CATCHING_UP_MS = 2500;

export class SessionStream {
  readonly items = signal<Item[]>([]);
  readonly live = signal<LiveBlock[]>([]);
  /** Every event as it came, for the timeline; a new array each time it is shown. */
  readonly events = signal<BerthEvent[]>([]);
  private readonly kept: BerthEvent[] = [];
  readonly sending = signal<UserItem[]>([]);
  readonly link = signal<Link>('connecting');
  readonly missing = signal(false);
  /** False until the history that existed at opening has been read. */
  readonly caughtUp = signal(false);
  readonly lastImage = signal<ImageBlock | null>(null);
  private transcript = new Transcript();
  /** How many changes of the transcript are shown. */
  private drawn = -1;
  /** Whose history the transcript is of; null as long as it is not known. */
  private epoch: string | null = null;
  private readonly socket: LiveSocket;
  private target: number | null = null;
  private frame = 0;
  /** The pending drawing is the late one of a history that is still coming. */
  private slow = false;
  private gapAt = -1;
  private toldStatus: string | null = null;
  private toldUsage: Usage | null = null;
  private closed = false;

  constructor(readonly id: string) {
    this.socket = new LiveSocket({
      path: () => `/sessions/${encodeURIComponent(id)}/stream?deltas=true${this.position()}`,
      message: (d) => this.take(d),
      state: (l) => {
        this.link.value = l;
        // What was streaming when the link broke is incomplete: the finished message brings it whole.
        if (l === 'waiting') {
          this.transcript.dropLive();
          this.show();
        }
      },
      refused: async (e) => {
        if (e?.status === 401) return true;
        const after = this.transcript.lastSeq;
        if (after > 0 && (await positionLost(`/events/${encodeURIComponent(id)}?limit=1${this.position()}`, after))) this.startOver();
        return this.gone();
      },
    });
    void this.describe();
  }

  close(): void {
    this.closed = true;
    cancelAnimationFrame(this.frame);
    clearTimeout(this.frame);
    this.socket.close();
  }

  reconnect(): void {
    this.socket.retryNow();
  }

  private async describe(): Promise<void> {
    try {
      const s = await getJson<Session>(`/sessions/${encodeURIComponent(this.id)}`);
      if (this.closed) return;
      this.target = s.last_seq ?? 0;
      const m = new Map(sessions.value);
      m.set(s.session_id, s);
      sessions.value = m;
      this.show();
    } catch (e) {
      if (e instanceof ApiError && e.status === 404) this.missing.value = true;
      this.target ??= 0;
    }
  }

  /** Where the server goes on. Nothing of it yet: it begins with the oldest event that is kept. */
  private position(): string {
    return this.transcript.lastSeq === 0 ? '' : `&after_seq=${this.transcript.lastSeq}${ofEpoch(this.epoch)}`;
  }

  /** What was shown is not the history any more, or not all that is left of it: read again from its beginning. */
  private startOver(): void {
    this.transcript = new Transcript();
    this.drawn = -1;
    this.epoch = null;
    this.kept.length = 0;
    this.gapAt = -1;
    this.events.value = [];
    this.caughtUp.value = false;
    this.target = null;
    void this.describe();
    this.show();
  }

  private async gone(): Promise<boolean> {
    try {
      await getJson(`/sessions/${encodeURIComponent(this.id)}`);
      return false;
    } catch (e) {
      if (!(e instanceof ApiError) || e.status !== 404) return false;
      this.missing.value = true;
      return true;
    }
  }

  private take(data: unknown): void {
    const u = data as BerthEvent;
    if (u.type === 'delta') {
      this.transcript.delta(data as Delta);
      this.show();
      return;
    }
    if (u.type === 'gone' || u.type === 'resync') {
      this.startOver();
      return;
    }
    if (typeof u.seq !== 'number' || !u.event_type) return;
    this.epoch ??= historyEpoch();
    if (this.transcript.lastSeq > 0 && u.seq > this.transcript.lastSeq + 1 && this.gapAt !== this.transcript.lastSeq) {
      // Something is missing between: ask again from the last one we have. Once per place, so that it can't go round for ever.
      this.gapAt = this.transcript.lastSeq;
      this.socket.reopen();
      return;
    }
    if (!this.transcript.apply(u)) return;
    this.kept.push(u);
    if (u.event_type === 'message' && u.role === 'user') this.settle(u);
    this.show();
  }

  /** Many updates may come in one frame (a resume brings thousands): the view is told once per frame. */
  private show(): void {
    if (this.closed) return;
    const behind = !this.caughtUp.value && (this.target === null || this.transcript.lastSeq < this.target);
    if (this.frame !== 0) {
      if (behind || !this.slow) return;
      clearTimeout(this.frame);
    }
    this.slow = behind;
    const run = () => {
      this.frame = 0;
      batch(() => {
        // A new word of the model is no reason to look at every entry again.
        if (this.drawn !== this.transcript.changes) {
          this.drawn = this.transcript.changes;
          this.items.value = this.transcript.items.slice();
        }
        this.live.value = this.transcript.live;
        if (this.kept.length !== this.events.value.length) this.events.value = this.kept.slice();
        this.lastImage.value = this.transcript.lastImage;
        if (!this.caughtUp.value && this.target !== null && this.transcript.lastSeq >= this.target) this.caughtUp.value = true;
        this.tell();
      });
    };
    // History comes in one burst: drawing it piece by piece would only make it late.
    if (behind) {
      this.frame = window.setTimeout(run, CATCHING_UP_MS);
      return;
    }
    // Frames do not come while the tab is hidden; the transcript must not wait for them for ever.
    this.frame = document.visibilityState === 'hidden' ? window.setTimeout(run, 250) : requestAnimationFrame(run);
  }

  /** What the stream says of the session itself; history says nothing new, the session object came with it. */
  private tell(): void {
    if (!this.caughtUp.value) return;
    const { status, usage } = this.transcript;
    const known = sessions.value.get(this.id);
    if (status !== null && status !== this.toldStatus && status !== known?.status) patchSession(this.id, { status: status as SessionStatus });
    if (usage !== null && usage !== this.toldUsage) patchSession(this.id, { usage: { ...known?.usage, ...usage } });
    this.toldStatus = status;
    this.toldUsage = usage;
  }

  private settle(u: BerthEvent): void {
    const mine = this.sending.value.find((s) => s.messageId !== null && s.messageId === u.message_id);
    if (mine) this.sending.value = this.sending.value.filter((s) => s !== mine);
  }

  async send(text: string): Promise<void> {
    const item: UserItem = {
      kind: 'user', key: crypto.randomUUID(), seq: 0, at: new Date().toISOString(), blocks: [{ type: 'text', text }], messageId: null, send: 'sending',
    };
    this.sending.value = [...this.sending.value, item];
    await this.post(item, text);
  }

  async resend(item: UserItem): Promise<void> {
    const text = item.blocks[0]?.type === 'text' ? item.blocks[0].text : '';
    this.replace(item.key, { ...item, send: 'sending' });
    await this.post(item, text);
  }

  discard(item: UserItem): void {
    this.sending.value = this.sending.value.filter((s) => s.key !== item.key);
  }

  private async post(item: UserItem, text: string): Promise<void> {
    try {
      // The key of the item is the idempotency key: sending again after a lost answer does not say it twice.
      const r = await postJson<{ message_id: string; seq?: number }>(`/sessions/${encodeURIComponent(this.id)}/messages`, { content: text }, {
        headers: { 'Idempotency-Key': item.key },
      });
      const known = this.transcript.items.some((i) => i.kind === 'user' && i.messageId === r.message_id);
      if (known || (r.seq && r.seq <= this.transcript.lastSeq)) this.discard(item);
      else this.replace(item.key, { ...item, messageId: r.message_id, send: 'sending' });
    } catch (e) {
      this.replace(item.key, { ...item, send: 'failed' });
      throw e;
    }
  }

  private replace(key: string, by: UserItem): void {
    this.sending.value = this.sending.value.map((s) => (s.key === key ? by : s));
  }
}
