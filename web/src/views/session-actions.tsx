/** What can be done with a session: stop, copy, rename, delete. Used by its header and by the narrow bar. */
import { useState } from 'preact/hooks';
import { go, paths } from '../lib/router';
import { deleteSession, stopSession } from '../state/feed';
import { toast, toastError } from '../state/toasts';
import { texts } from '../texts';
import { isLive, type Session } from '../types';
import { Confirm, copyText, IconButton, MenuItem, Popover, Spinner } from '../ui/controls';
import { Icon } from '../ui/icons';

export function SessionActions({ session: s, compact, onRename }: { session: Session; compact?: boolean; onRename?: () => void }) {
  const t = texts.session;
  const [stopping, setStopping] = useState(false);
  const [asking, setAsking] = useState(false);
  const stop = async () => {
    setStopping(true);
    try {
      await stopSession(s.session_id);
    } catch (e) {
      toastError(e);
    } finally {
      setStopping(false);
    }
  };
  const name = s.session_name || texts.sessions.unnamed;
  return (
    <div class="s-actions">
      {isLive(s.status) && (compact
        ? <IconButton icon="stop" label={t.stop} onClick={() => void stop()} disabled={stopping} size={18} />
        : (
          <button type="button" class="btn danger" onClick={() => void stop()} disabled={stopping}>
            {stopping ? <Spinner /> : <Icon name="stop" size={15} />}{stopping ? t.stopping : t.stop}
          </button>
        ))}
      <Popover label={texts.common.more} buttonClass="icon-btn" panelClass="" button={<Icon name="more" />}>
        {(close) => (
          <>
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
