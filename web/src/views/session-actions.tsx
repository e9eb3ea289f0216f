/** What can be done with a session: pause, interrupt, stop, fork, copy, rename, delete. Used by its header and by the narrow bar. */
import { useState } from 'preact/hooks';
import { go, paths } from '../lib/router';
import { controlSession, deleteSession, forkSession, type Action } from '../state/feed';
import { toast, toastError } from '../state/toasts';
import { budgetOpen } from '../state/ui';
import { texts } from '../texts';
import { isLive, type Session, type SessionStatus } from '../types';
import { Confirm, copyText, IconButton, MenuItem, Popover } from '../ui/controls';
import { Icon } from '../ui/icons';

const PAUSABLE: readonly SessionStatus[] = ['queued', 'starting', 'running', 'waiting', 'idle'];
const BUSY: readonly SessionStatus[] = ['queued', 'starting', 'running', 'waiting'];

export const canPause = (s: Session): boolean => s.kind !== 'external' && PAUSABLE.includes(s.status);
export const canInterrupt = (s: Session): boolean => s.kind !== 'external' && BUSY.includes(s.status);

export function act(s: Session, action: Action): void {
  controlSession(s.session_id, action).catch(toastError);
}

export async function fork(s: Session, after?: number): Promise<void> {
  try {
    const made = await forkSession(s.session_id, texts.session.forkName(s.session_name || texts.sessions.unnamed), after);
    go(paths.session(made.session_id));
    toast('good', texts.session.forked);
  } catch (e) {
    toastError(e);
  }
}

export function SessionActions({ session: s, compact, onRename }: { session: Session; compact?: boolean; onRename?: () => void }) {
  const t = texts.session;
  const [asking, setAsking] = useState(false);
  const name = s.session_name || texts.sessions.unnamed;
  const paused = s.status === 'paused';
  return (
    <div class="s-actions">
      {!compact && paused && <button type="button" class="btn" onClick={() => act(s, 'resume')}><Icon name="play" size={15} />{t.resume}</button>}
      {!compact && canInterrupt(s) && <IconButton icon="interrupt" label={`${t.interrupt}: ${t.interruptHint}`} onClick={() => act(s, 'interrupt')} />}
      {!compact && canPause(s) && s.status !== 'idle' && <IconButton icon="pause" label={`${t.pause}: ${t.pauseHint}`} onClick={() => act(s, 'pause')} />}
      {isLive(s.status) && (compact
        ? <IconButton icon="stop" label={t.stop} onClick={() => act(s, 'stop')} size={18} />
        : <button type="button" class="btn danger" onClick={() => act(s, 'stop')}><Icon name="stop" size={15} />{t.stop}</button>)}
      <Popover label={texts.common.more} buttonClass="icon-btn" panelClass="" button={<Icon name="more" />}>
        {(close) => (
          <>
            {paused && <MenuItem icon="play" text={t.resume} onClick={() => { close(); act(s, 'resume'); }} />}
            {canPause(s) && <MenuItem icon="pause" text={t.pause} onClick={() => { close(); act(s, 'pause'); }} />}
            {canInterrupt(s) && <MenuItem icon="interrupt" text={t.interrupt} onClick={() => { close(); act(s, 'interrupt'); }} />}
            {(paused || canPause(s)) && <hr />}
            {s.kind !== 'external' && <MenuItem icon="gauge" text={texts.budget.title} onClick={() => { close(); budgetOpen.value = s.session_id; }} />}
            {s.kind !== 'external' && <MenuItem icon="fork" text={t.fork} onClick={() => { close(); void fork(s); }} />}
            {onRename && <MenuItem icon="pencil" text={t.rename} onClick={() => { close(); onRename(); }} />}
            <MenuItem icon="copy" text={t.copyId} onClick={() => { close(); void copyText(s.session_id); }} />
            <MenuItem icon="link" text={t.copyLink} onClick={() => { close(); void copyText(location.origin + paths.session(s.session_id)); }} />
            <hr />
            <MenuItem icon="trash" text={t.remove} danger onClick={() => { close(); setAsking(true); }} />
          </>
        )}
      </Popover>
      {asking && (
        <Confirm
          title={t.removeTitle} text={t.removeText(name)} action={texts.common.delete} onClose={() => setAsking(false)}
          onConfirm={async () => {
            try {
              await deleteSession(s.session_id);
              setAsking(false);
              go(paths.home);
              toast('good', t.removed);
            } catch (e) {
              toastError(e);
            }
          }}
        />
      )}
    </div>
  );
}
