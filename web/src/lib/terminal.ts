/** A terminal of a slot in the page: xterm.js, loaded with the first one, over one WebSocket. */
import type { FitAddon } from '@xterm/addon-fit';
import type { Terminal } from '@xterm/xterm';
import { socketUrl, withTicket } from './api';

export type ShellEnd = 'ended' | 'lost' | 'refused';

export interface ShellOwner {
  opened(): void;
  /** Whether what is typed passes. */
  held(yes: boolean): void;
  ended(why: ShellEnd): void;
}

/** The gateway's code for a shell that has ended. */
const ENDED = 1001;
/** Not yet drawn: above the first the gateway is asked to wait, below the second to go on. */
const HIGH = 128 << 10;
const LOW = 32 << 10;
const PIECE = 64 << 10;

const COLOURS = {
  background: '--term', foreground: '--term-ink', cursor: '--term-prompt', cursorAccent: '--term', selectionBackground: '--term-select', black: '--term-black', red: '--term-red',
  green: '--term-green', yellow: '--term-yellow', blue: '--term-blue', magenta: '--term-magenta', cyan: '--term-prompt', white: '--term-ink', brightBlack: '--term-dim',
  brightRed: '--term-red', brightGreen: '--term-green', brightYellow: '--term-yellow', brightBlue: '--term-blue', brightMagenta: '--term-magenta', brightCyan: '--term-prompt', brightWhite: '--term-bright',
};

/** The tokens as the browser works them out: those of the theme that is on. */
function colours(host: HTMLElement): Record<string, string> {
  const probe = document.createElement('span');
  host.append(probe);
  const found = Object.entries(COLOURS).map(([name, token]) => {
    probe.style.color = `var(${token})`;
    return [name, getComputedStyle(probe).color];
  });
  probe.remove();
  return Object.fromEntries(found) as Record<string, string>;
}

export class Shell {
  private term: Terminal | null = null;
  private fit: FitAddon | null = null;
  private ws: WebSocket | null = null;
  private sizes: ResizeObserver | null = null;
  private themes: MutationObserver | null = null;
  private readonly dark = matchMedia('(prefers-color-scheme: dark)');
  private readonly recolour = () => {
    if (this.term) this.term.options.theme = colours(this.host);
  };
  private gone = false;
  private waiting = 0;
  private paused = false;

  constructor(private readonly host: HTMLElement, private readonly path: string, private readonly label: string, private readonly owner: ShellOwner) {
    void this.start();
  }

  close(): void {
    this.gone = true;
    this.sizes?.disconnect();
    this.themes?.disconnect();
    this.dark.removeEventListener('change', this.recolour);
    this.ws?.close(1000);
    this.term?.dispose();
  }

  focus(): void {
    this.term?.focus();
  }

  selection(): string {
    return this.term?.getSelection() ?? '';
  }

  paste(text: string): void {
    this.term?.paste(text);
    this.term?.focus();
  }

  private async start(): Promise<void> {
    let path: string;
    try {
      const [{ Terminal }, { FitAddon }] = await Promise.all([import('@xterm/xterm'), import('@xterm/addon-fit')]);
      if (this.gone) return;
      const style = getComputedStyle(this.host);
      const term = new Terminal({
        fontFamily: style.getPropertyValue('--mono'), fontSize: 13, lineHeight: 1.2, cursorBlink: !matchMedia('(prefers-reduced-motion: reduce)').matches,
        scrollback: 5000, theme: colours(this.host), minimumContrastRatio: 4.5, macOptionIsMeta: true, logLevel: 'off', // bytes that are no text are not news
      });
      this.term = term;
      this.fit = new FitAddon();
      term.loadAddon(this.fit);
      term.open(this.host);
      term.textarea?.setAttribute('aria-label', this.label);
      this.fit.fit();
      term.attachCustomKeyEventHandler((e) => this.key(e));
      term.onData((d) => this.send(new TextEncoder().encode(d)));
      term.onBinary((d) => this.send(Uint8Array.from(d, (c) => c.charCodeAt(0))));
      term.onResize(({ cols, rows }) => this.say({ type: 'resize', cols, rows }));
      this.sizes = new ResizeObserver(() => this.host.clientWidth > 0 && this.fit?.fit());
      this.sizes.observe(this.host);
      this.themes = new MutationObserver(this.recolour);
      this.themes.observe(document.documentElement, { attributeFilter: ['data-theme'] });
      this.dark.addEventListener('change', this.recolour);
      path = await withTicket(`${this.path}&cols=${term.cols}&rows=${term.rows}`);
    } catch {
      if (!this.gone) this.owner.ended('lost');
      return;
    }
    if (!this.gone) this.connect(path);
  }

  private connect(path: string): void {
    const ws = new WebSocket(socketUrl(path));
    let open = false;
    this.ws = ws;
    ws.binaryType = 'arraybuffer';
    ws.onopen = () => {
      open = true;
      this.owner.opened();
      const t = this.term!;
      this.say({ type: 'resize', cols: t.cols, rows: t.rows });
    };
    ws.onmessage = (e) => {
      if (typeof e.data !== 'string') this.draw(new Uint8Array(e.data as ArrayBuffer));
      else this.owner.held((JSON.parse(e.data) as { held?: boolean }).held === true);
    };
    ws.onclose = (e) => {
      this.ws = null;
      if (!this.gone) this.owner.ended(!open ? 'refused' : e.code === ENDED ? 'ended' : 'lost');
    };
  }

  private draw(data: Uint8Array): void {
    this.waiting += data.length;
    this.term!.write(data, () => {
      this.waiting -= data.length;
      this.pace();
    });
    this.pace();
  }

  private pace(): void {
    if (this.paused ? this.waiting > LOW : this.waiting < HIGH) return;
    this.paused = !this.paused;
    this.say({ type: this.paused ? 'pause' : 'continue' });
  }

  /** Ctrl+Shift+C copies; without it Ctrl+C is the program's. */
  private key(e: KeyboardEvent): boolean {
    if (e.type !== 'keydown' || !e.ctrlKey || !e.shiftKey || e.code !== 'KeyC' || !this.term?.hasSelection()) return !(e.ctrlKey && e.shiftKey && e.code === 'KeyV');
    e.preventDefault();
    void navigator.clipboard.writeText(this.term.getSelection());
    return false;
  }

  private say(what: object): void {
    if (this.ws?.readyState === WebSocket.OPEN) this.ws.send(JSON.stringify(what));
  }

  private send(data: Uint8Array<ArrayBuffer>): void {
    if (this.ws?.readyState !== WebSocket.OPEN) return;
    for (let at = 0; at < data.length; at += PIECE) this.ws.send(data.subarray(at, at + PIECE));
  }
}
