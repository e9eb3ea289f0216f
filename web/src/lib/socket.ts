/** A WebSocket that comes back: a new ticket for each try, waits that grow, and the owner's own resume point in the address. */
import { ApiError, socketUrl, withTicket } from './api';
import { Backoff } from './backoff';

export type Link = 'connecting' | 'open' | 'waiting' | 'closed';

export interface SocketOwner {
  /** The path with the resume point as it is now; asked before each try. */
  path(): string;
  message(data: unknown): void;
  state(link: Link, retryInMs?: number): void;
  opened?(send: (data: unknown) => void): void;
  /** Told when a try failed before the link opened; return true to give up. */
  refused?(error: ApiError | null): Promise<boolean> | boolean;
}

/** The server's code for a client that could not keep up: come back at once with the resume point. */
const LAGGED = 4008;
const PING_MS = 20_000;

export class LiveSocket {
  private ws: WebSocket | null = null;
  private timer = 0;
  private pinger = 0;
  private stopped = false;
  /** Set once the server has answered a ping: from then on silence means a dead line. */
  private answers = false;
  private readonly backoff = new Backoff();
  private readonly wake = () => this.retryNow();

  constructor(private readonly owner: SocketOwner) {
    addEventListener('online', this.wake);
    document.addEventListener('visibilitychange', this.wake);
    void this.open();
  }

  close(): void {
    this.stopped = true;
    removeEventListener('online', this.wake);
    document.removeEventListener('visibilitychange', this.wake);
    clearTimeout(this.timer);
    clearInterval(this.pinger);
    this.ws?.close(1000);
    this.ws = null;
    this.owner.state('closed');
  }

  send(data: unknown): void {
    if (this.ws?.readyState === WebSocket.OPEN) this.ws.send(JSON.stringify(data));
  }

  /** Leaves this connection and makes a new one at the owner's resume point. */
  reopen(): void {
    if (this.ws) this.lost(this.ws);
  }

  /** Used when the network or the tab is back: no reason to sit out the rest of the wait. */
  retryNow(): void {
    if (this.timer === 0 || document.visibilityState === 'hidden') return;
    clearTimeout(this.timer);
    this.timer = 0;
    void this.open();
  }

  private async open(): Promise<void> {
    this.timer = 0;
    if (this.stopped) return;
    this.owner.state('connecting');
    let url: string;
    try {
      url = await withTicket(this.owner.path());
    } catch (e) {
      if (await this.owner.refused?.(e instanceof ApiError ? e : null)) return;
      this.later();
      return;
    }
    if (this.stopped) return;
    const ws = new WebSocket(socketUrl(url));
    this.ws = ws;
    let wasOpen = false;
    ws.onopen = () => {
      wasOpen = true;
      this.owner.state('open');
      this.owner.opened?.((d) => this.send(d));
      let heard = true;
      this.pinger = window.setInterval(() => {
        // Two pings and not one message since: the line is dead, whatever the socket thinks.
        if (!heard && this.answers) this.lost(ws);
        else {
          heard = false;
          this.send({ type: 'ping' });
        }
      }, PING_MS);
      ws.addEventListener('message', () => {
        heard = true;
      });
    };
    ws.onmessage = (e) => {
      this.backoff.reset();
      if (typeof e.data !== 'string') return;
      let data: unknown;
      try {
        data = JSON.parse(e.data);
      } catch {
        return;
      }
      if ((data as { type?: unknown } | null)?.type === 'pong') this.answers = true;
      else this.owner.message(data);
    };
    ws.onclose = async (e) => {
      if (this.ws !== ws) return;
      clearInterval(this.pinger);
      this.ws = null;
      if (this.stopped) return;
      if (e.code === LAGGED) this.backoff.reset();
      if (!wasOpen && (await this.owner.refused?.(null))) return;
      this.later();
    };
  }

  private lost(ws: WebSocket): void {
    if (this.ws !== ws) return;
    clearInterval(this.pinger);
    this.ws = null;
    ws.close(4000);
    this.later();
  }

  private later(): void {
    if (this.stopped) return;
    const wait = this.backoff.next();
    this.owner.state('waiting', wait);
    this.timer = window.setTimeout(() => void this.open(), wait);
  }
}
