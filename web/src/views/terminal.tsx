/** The terminal of a session's slot: a shell of this tab's own, that takes what is typed while the tab has the controls. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { Shell, type ShellEnd } from '../lib/terminal';
import { busy, controlOf, giveBack, isMine, leave, take, VIEWER } from '../state/control';
import { toast } from '../state/toasts';
import { texts } from '../texts';
import { isLive, type Session } from '../types';
import { Blank, Confirm, IconButton, Spinner } from '../ui/controls';
import { Icon } from '../ui/icons';

type Phase = 'connecting' | 'open' | ShellEnd;

export function TerminalView({ session: s }: { session: Session }) {
  const t = texts.terminal;
  const id = s.session_id;
  const [phase, setPhase] = useState<Phase>('connecting');
  const [held, setHeld] = useState(false);
  const [asking, setAsking] = useState(false);
  const [round, setRound] = useState(0);
  const host = useRef<HTMLDivElement>(null);
  const shell = useRef<Shell | null>(null);
  const there = isLive(s.status) && Boolean(s.worker_id);
  const headless = s.kind === 'headless';
  const control = controlOf(s);
  const mine = isMine(s);
  useEffect(() => {
    if (!there || !host.current) return undefined;
    setPhase('connecting');
    setHeld(false);
    const made = new Shell(host.current, `/sessions/${encodeURIComponent(id)}/terminal?viewer=${VIEWER}`, t.tab, { opened: () => setPhase('open'), held: setHeld, ended: setPhase });
    shell.current = made;
    return () => {
      shell.current = null;
      made.close();
    };
  }, [id, there, s.worker_id, round]);
  useEffect(() => {
    if (held) shell.current?.focus();
  }, [held]);
  // A desktop gives the controls back itself when it is left.
  useEffect(() => {
    if (!headless) return undefined;
    const left = () => leave(id);
    window.addEventListener('pagehide', left);
    return () => {
      window.removeEventListener('pagehide', left);
      left();
    };
  }, [id, headless]);
  if (!there) return <section class="slot-term"><Blank icon="terminal" title={t.none} text={t.noneHint} /></section>;
  const copy = async () => {
    const text = shell.current?.selection() ?? '';
    if (text === '') return toast('info', t.selectFirst);
    await navigator.clipboard.writeText(text);
    toast('good', texts.common.copied);
  };
  const paste = async () => {
    try {
      shell.current?.paste(await navigator.clipboard.readText());
    } catch {
      toast('info', t.pasteHint);
    }
  };
  const over = phase === 'ended' || phase === 'lost' || phase === 'refused';
  return (
    <section class="slot-term" aria-label={t.tab}>
      <div class="files-bar term-bar">
        <span class={`drive ${held ? 'mine' : ''}`} role="status">
          <Icon name={held ? 'hand' : 'eye'} size={14} />{phase === 'connecting' ? texts.common.loading : held ? t.yours : control && !mine ? texts.takeover.drives(control.person) : t.readOnly}
        </span>
        <span class="grow" />
        <IconButton icon="copy" small label={t.copy} onClick={() => void copy()} />
        <IconButton icon="clip" small label={t.paste} disabled={!held} onClick={() => void paste()} />
        {mine
          ? headless && <button type="button" class="btn small" disabled={busy.value} onClick={() => void giveBack(id)}>{busy.value ? <Spinner /> : <Icon name="repeat" size={13} />}{texts.takeover.giveBack}</button>
          : <button type="button" class="btn small primary" disabled={busy.value} title={t.takeHint} onClick={() => (control ? setAsking(true) : void take(id, false))}>{busy.value ? <Spinner /> : <Icon name="hand" size={13} />}{texts.takeover.take}</button>}
      </div>
      <div class="term-stage">
        <div class="term-host" ref={host} data-terminal={phase} data-held={held} />
        {over && (
          <div class="term-over" role="alert">
            <p><Icon name={phase === 'ended' ? 'terminal' : 'unplug'} size={16} />{t[phase as ShellEnd]}</p>
            <button type="button" class="btn primary" onClick={() => setRound(round + 1)}>{phase === 'ended' ? t.again : t.reconnect}</button>
          </div>
        )}
      </div>
      {asking && control && (
        <Confirm
          title={texts.takeover.forceTitle(control.person)} text={texts.takeover.forceText} action={texts.takeover.take} onClose={() => setAsking(false)}
          onConfirm={async () => {
            await take(id, true);
            setAsking(false);
          }}
        />
      )}
    </section>
  );
}
