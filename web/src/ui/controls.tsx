/** The small parts: status, dialog, menu, copy, skeletons, error boundary. */
import { Component, type ComponentChildren } from 'preact';
import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import { texts } from '../texts';
import type { SessionStatus } from '../types';
import { toast } from '../state/toasts';
import { Icon, type IconName } from './icons';

export function Status({ status, pill }: { status: SessionStatus; pill?: boolean }) {
  return (
    <span class={`status ${pill ? 'pill' : ''}`} data-status={status} title={texts.statusHint[status]}>
      <i class="dot" aria-hidden="true" />
      {texts.status[status] ?? status}
    </span>
  );
}

export function Spinner() {
  return <span class="spinner" aria-hidden="true" />;
}

export function Skeleton({ width, height }: { width: number | string; height?: number }) {
  return <div class="skel" style={{ width: typeof width === 'number' ? `${width}px` : width, height: height ? `${height}px` : '' }} aria-hidden="true" />;
}

export function Blank(props: { icon: IconName; title: string; text?: string; children?: ComponentChildren }) {
  return (
    <div class="blank">
      <Icon name={props.icon} size={28} />
      <h2>{props.title}</h2>
      {props.text && <p>{props.text}</p>}
      {props.children}
    </div>
  );
}

export function IconButton(props: { icon: IconName; label: string; onClick?: (e: MouseEvent) => void; small?: boolean; disabled?: boolean; size?: number; pressed?: boolean }) {
  return (
    <button type="button" class={`icon-btn ${props.small ? 'small' : ''}`} aria-label={props.label} title={props.label} onClick={props.onClick} disabled={props.disabled} aria-pressed={props.pressed}>
      <Icon name={props.icon} size={props.size ?? (props.small ? 14 : 16)} />
    </button>
  );
}

/** Opens the dialog it is given to; when that goes, the focus is back where it was. The browser sees to it only for a dialog that is still in the document. */
export function useModal(): { current: HTMLDialogElement | null } {
  const ref = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    const d = ref.current!;
    const before = document.activeElement;
    if (!d.open) d.showModal();
    return () => {
      d.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return ref;
}

/** A modal dialog: the browser's own, so that focus stays inside and Escape closes it. */
export function Dialog(props: { title: string; onClose: () => void; small?: boolean; children: ComponentChildren; foot?: ComponentChildren; onSubmit?: () => void }) {
  const ref = useModal();
  const body = (
    <>
      <div class="dialog-head">
        <h2>{props.title}</h2>
        <IconButton icon="x" label={texts.common.close} onClick={props.onClose} />
      </div>
      <div class="dialog-body scroll">{props.children}</div>
      {props.foot && <div class="dialog-foot">{props.foot}</div>}
    </>
  );
  return (
    <dialog
      ref={ref}
      class={`dialog ${props.small ? 'small' : ''}`}
      aria-label={props.title}
      onCancel={(e) => {
        e.preventDefault();
        props.onClose();
      }}
      onMouseDown={(e) => e.target === ref.current && props.onClose()}
    >
      {props.onSubmit ? (
        <form
          style={{ display: 'contents' }}
          onSubmit={(e) => {
            e.preventDefault();
            props.onSubmit!();
          }}
        >
          {body}
        </form>
      ) : (
        body
      )}
    </dialog>
  );
}

export function Confirm(props: { title: string; text: string; action: string; onClose: () => void; onConfirm: () => Promise<void> }) {
  const [busy, setBusy] = useState(false);
  return (
    <Dialog
      small
      title={props.title}
      onClose={props.onClose}
      foot={
        <>
          <button type="button" class="btn" onClick={props.onClose}>{texts.common.cancel}</button>
          <button
            type="button"
            class="btn solid-danger"
            disabled={busy}
            onClick={() => {
              setBusy(true);
              void props.onConfirm().finally(() => setBusy(false));
            }}
          >
            {busy && <Spinner />}
            {props.action}
          </button>
        </>
      }
    >
      <p>{props.text}</p>
    </Dialog>
  );
}

/** A button that opens a floating panel in the top layer. `named`: its content says what it is. */
export function Popover(props: { label: string; button: ComponentChildren; buttonClass: string; panelClass: string; side?: 'end' | 'start'; role?: 'menu' | 'dialog'; named?: boolean; data?: Record<string, string>; children: (close: () => void) => ComponentChildren }) {
  const button = useRef<HTMLButtonElement>(null);
  const panel = useRef<HTMLDivElement>(null);
  const [open, setOpen] = useState(false);
  const place = () => {
    const b = button.current!.getBoundingClientRect();
    const p = panel.current!;
    const w = p.offsetWidth;
    const height = p.offsetHeight;
    const x = props.side === 'start' ? b.left : b.right - w;
    const y = b.bottom + 4 + height > innerHeight ? b.top - height - 4 : b.bottom + 4;
    p.style.left = `${Math.max(8, Math.min(x, innerWidth - w - 8))}px`;
    p.style.top = `${Math.max(8, y)}px`;
  };
  const close = () => panel.current?.hidePopover();
  return (
    <>
      <button
        ref={button}
        type="button"
        class={props.buttonClass}
        aria-label={props.named ? undefined : props.label}
        title={props.label}
        aria-haspopup={props.role ?? 'menu'}
        aria-expanded={open}
        {...props.data}
        onClick={() => panel.current?.togglePopover()}
      >
        {props.button}
      </button>
      <div
        ref={panel}
        popover="auto"
        class={`menu ${props.panelClass}`}
        role={props.role ?? 'menu'}
        aria-label={props.label}
        onToggle={(e) => {
          const shown = (e as unknown as ToggleEvent).newState === 'open';
          setOpen(shown);
          if (shown) {
            place();
            panel.current?.querySelector<HTMLElement>('button')?.focus();
          }
        }}
        onKeyDown={(e) => {
          if (e.key !== 'ArrowDown' && e.key !== 'ArrowUp') return;
          e.preventDefault();
          const all = [...panel.current!.querySelectorAll<HTMLElement>('button')];
          const i = all.indexOf(document.activeElement as HTMLElement);
          all[(i + (e.key === 'ArrowDown' ? 1 : all.length - 1)) % all.length]?.focus();
        }}
      >
        {props.children(close)}
      </div>
    </>
  );
}

export function MenuItem(props: { icon: IconName; text: string; danger?: boolean; onClick: () => void }) {
  return (
    <button type="button" role="menuitem" class={props.danger ? 'danger' : ''} onClick={props.onClick}>
      <Icon name={props.icon} size={15} />
      {props.text}
    </button>
  );
}

export async function copyText(value: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(value);
  } catch {
    // Without a secure context there is no clipboard API; a selected field works everywhere.
    const t = document.createElement('textarea');
    t.value = value;
    document.body.append(t);
    t.select();
    document.execCommand('copy');
    t.remove();
  }
  toast('good', texts.common.copied);
}

/** A fault in one part of the page stays in that part; `line`: the part is small, one line tells of it. */
export class Boundary extends Component<{ children: ComponentChildren; resetKey?: unknown; line?: string }, { failed: boolean }> {
  override state = { failed: false };
  override componentDidCatch(e: unknown): void {
    console.error(e);
    this.setState({ failed: true });
  }
  override componentDidUpdate(before: { resetKey?: unknown }): void {
    if (before.resetKey !== this.props.resetKey && this.state.failed) this.setState({ failed: false });
  }
  render() {
    if (!this.state.failed) return this.props.children;
    if (this.props.line) return <p class="fault small" role="alert"><Icon name="warn" size={15} />{this.props.line}</p>;
    return (
      <Blank icon="warn" title={texts.errors.boundary} text={texts.errors.boundaryHint}>
        <button type="button" class="btn" onClick={() => location.reload()}>{texts.errors.reload}</button>
      </Blank>
    );
  }
}
