/** The bar over a live desktop: who drives, take over, give back, secret entry, clipboard, size. */
import { useEffect, useState } from 'preact/hooks';
import { busy, controlOf, giveBack, isMine, leave, readClipboard, resize, setSecret, take, writeClipboard } from '../state/control';
import { toast, toastError } from '../state/toasts';
import { texts } from '../texts';
import type { Session } from '../types';
import { Confirm, Dialog, IconButton, Spinner } from '../ui/controls';
import { Icon } from '../ui/icons';

const CLIPBOARD_MAX = 32_768;

function Clipboard({ id, onClose }: { id: string; onClose: () => void }) {
  const t = texts.takeover;
  const [text, setText] = useState('');
  const [waiting, setWaiting] = useState(false);
  const run = (what: () => Promise<void>) => {
    setWaiting(true);
    what().catch(toastError).finally(() => setWaiting(false));
  };
  return (
    <Dialog
      title={t.clipboard} onClose={onClose}
      foot={
        <>
          <button type="button" class="btn" disabled={waiting} onClick={() => run(async () => setText(await readClipboard(id)))}><Icon name="download" size={15} />{t.fetch}</button>
          <span class="grow" />
          <button
            type="button" class="btn primary" disabled={waiting || new TextEncoder().encode(text).length > CLIPBOARD_MAX}
            onClick={() => run(async () => {
              await writeClipboard(id, text);
              toast('good', t.sent);
            })}
          >
            {waiting ? <Spinner /> : <Icon name="upload" size={15} />}{t.send}
          </button>
        </>
      }
    >
      <p class="dim">{t.clipboardHint}</p>
      <textarea class="input clip-text" rows={8} aria-label={t.clipboardText} value={text} onInput={(e) => setText(e.currentTarget.value)} ref={(el) => el?.focus()} />
    </Dialog>
  );
}

/** Whole tens, within what the gateway takes. */
const side = (n: number, min: number, max: number): number => Math.round(Math.min(max, Math.max(min, n)) / 10) * 10;

export function Takeover({ session: s, live, stage }: { session: Session; live: boolean; stage: { current: HTMLElement | null } }) {
  const t = texts.takeover;
  const [clip, setClip] = useState(false);
  const [asking, setAsking] = useState(false);
  const id = s.session_id;
  const control = controlOf(s);
  const mine = isMine(s);
  useEffect(() => () => leave(id), [id]);
  useEffect(() => {
    const left = () => leave(id);
    window.addEventListener('pagehide', left);
    return () => window.removeEventListener('pagehide', left);
  }, [id]);
  if (!live) return null;
  const fit = () => {
    const box = stage.current?.getBoundingClientRect();
    if (box) resize(id, side(box.width, 640, 3840), side(Math.max(box.height, box.width * 0.5), 400, 2160)).catch(toastError);
  };
  return (
    <>
      {!control && <span class="metric view-only" title={texts.desktop.viewOnly}><Icon name="eye" size={14} /><span>{texts.desktop.viewOnly}</span></span>}
      {control && (
        <span class={`drive ${mine ? 'mine' : ''}`} role="status"><Icon name="hand" size={14} />{mine ? t.youDrive : t.drives(control.person)}</span>
      )}
      {control?.secret && <span class="drive secret" role="status"><Icon name="eyeOff" size={14} />{t.secretOn}</span>}
      {mine && (
        <>
          <IconButton icon={control?.secret ? 'eye' : 'eyeOff'} label={control?.secret ? t.secretStop : t.secretStart} pressed={control?.secret === true} disabled={busy.value} onClick={() => void setSecret(id, !control?.secret)} />
          <IconButton icon="clip" label={t.clipboard} onClick={() => setClip(true)} />
          <IconButton icon="window" label={t.fit} onClick={fit} />
          <button type="button" class="btn small drive-btn" disabled={busy.value} onClick={() => void giveBack(id)}>{busy.value ? <Spinner /> : <Icon name="repeat" size={14} />}{t.giveBack}</button>
        </>
      )}
      {!mine && (
        <button type="button" class="btn small drive-btn" disabled={busy.value} onClick={() => (control ? setAsking(true) : void take(id, false))} title={t.takeHint}>
          {busy.value ? <Spinner /> : <Icon name="hand" size={14} />}{t.take}
        </button>
      )}
      {clip && <Clipboard id={id} onClose={() => setClip(false)} />}
      {asking && control && (
        <Confirm
          title={t.forceTitle(control.person)} text={t.forceText} action={t.take} onClose={() => setAsking(false)}
          onConfirm={async () => {
            await take(id, true);
            setAsking(false);
          }}
        />
      )}
    </>
  );
}
