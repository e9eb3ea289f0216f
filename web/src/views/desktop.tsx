/** The desktop of a session: live by noVNC (loaded when needed), view-only until one takes over; its recording; before and after that, what there is to tell. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { socketUrl, withTicket } from '../lib/api';
import { Backoff } from '../lib/backoff';
import { frameUrl, imageUrl } from '../lib/images';
import { controlOf, isMine, VIEWER } from '../state/control';
import { sessions } from '../state/feed';
import type { SessionStream } from '../state/stream';
import { texts } from '../texts';
import { isLive, type Session } from '../types';
import { IconButton, Spinner } from '../ui/controls';
import { Icon } from '../ui/icons';
import { Replay, useRecording } from './replay';
import { Steps } from './steps';
import { Takeover } from './takeover';

type Phase = 'connecting' | 'live' | 'lost';

/** Whether there is a screen to connect to right now. */
function hasScreen(s: Session | undefined): boolean {
  if (!s || !isLive(s.status) || s.status === 'queued' || s.status === 'starting') return false;
  return Boolean(s.worker_id);
}

/** Keeps one RFB connection while `on`; comes back by itself. */
function useScreen(id: string, on: boolean, drives: boolean, target: { current: HTMLDivElement | null }): Phase {
  const [phase, setPhase] = useState<Phase>('connecting');
  const link = useRef<{ viewOnly: boolean; focusOnClick: boolean; focus(): void } | null>(null);
  const driving = useRef(drives);
  useEffect(() => {
    driving.current = drives;
    if (!link.current) return;
    link.current.viewOnly = !drives;
    link.current.focusOnClick = drives;
    // Whoever took over in the terminal goes on typing there.
    if (drives && !document.activeElement?.closest('.slot-term')) link.current.focus();
  }, [drives]);
  useEffect(() => {
    if (!on) return undefined;
    let stopped = false;
    let timer = 0;
    let rfb: { disconnect(): void } | null = null;
    const backoff = new Backoff();
    setPhase('connecting');
    const again = () => {
      if (stopped) return;
      timer = window.setTimeout(() => void open(), backoff.next());
    };
    const open = async () => {
      try {
        const [{ default: RFB }, path] = await Promise.all([import('@novnc/novnc'), withTicket(`/sessions/${encodeURIComponent(id)}/vnc?viewer=${VIEWER}`)]);
        if (stopped || !target.current) return;
        const r = new RFB(target.current, socketUrl(path), { shared: true, wsProtocols: ['binary'] });
        r.viewOnly = !driving.current;
        r.scaleViewport = true;
        r.focusOnClick = driving.current;
        link.current = r;
        r.background = 'transparent';
        rfb = r;
        r.addEventListener('connect', () => {
          backoff.reset();
          setPhase('live');
        });
        r.addEventListener('disconnect', () => {
          rfb = null;
          link.current = null;
          if (stopped) return;
          setPhase((p) => (p === 'live' ? 'lost' : p));
          again();
        });
      } catch {
        again();
      }
    };
    void open();
    return () => {
      stopped = true;
      clearTimeout(timer);
      rfb?.disconnect();
    };
  }, [id, on]);
  return phase;
}

/** The last picture of a session that has none live: from its events, else from the gateway. */
function useLast(stream: SessionStream, on: boolean): string | null | undefined {
  const [src, setSrc] = useState<string | null | undefined>(undefined);
  const url = stream.lastImage.value?.url;
  const ready = stream.caughtUp.value;
  useEffect(() => {
    if (!on || !ready) return undefined;
    let go = true;
    let mine: string | null = null;
    frameUrl(stream.id)
      .then((u) => {
        mine = u;
        return u;
      })
      .catch(() => (url ? imageUrl(url) : null))
      .then((u) => go && setSrc(u), () => go && setSrc(null));
    return () => {
      go = false;
      setSrc(undefined);
      const url = mine;
      // Not before the picture has left the page.
      if (url) setTimeout(() => URL.revokeObjectURL(url), 1000);
    };
  }, [on, ready, url]);
  return src;
}

function Over(props: { icon?: 'monitorOff' | 'clock'; title: string; text?: string; veil?: boolean }) {
  return (
    <div class={`desk-over ${props.veil ? 'veil' : ''}`} role="status">
      {props.icon ? <Icon name={props.icon} size={30} /> : <Spinner />}
      <h3>{props.title}</h3>
      {props.text && <p>{props.text}</p>}
    </div>
  );
}

export function Desktop({ session: given, stream }: { session: Session | undefined; stream: SessionStream }) {
  const t = texts.desktop;
  const s = given ?? sessions.value.get(stream.id);
  const root = useRef<HTMLElement>(null);
  const target = useRef<HTMLDivElement>(null);
  const [full, setFull] = useState(false);
  const [folded, setFolded] = useState(false);
  const on = hasScreen(s);
  const ended = s !== undefined && !isLive(s.status);
  // An idle session may have lent its slot to another one: its last screen is shown until it runs again.
  const resting = s !== undefined && !ended && !on && ['idle', 'waiting', 'paused'].includes(s.status);
  const past = ended || resting;
  const drives = isMine(s);
  const phase = useScreen(stream.id, on, drives, target);
  const last = useLast(stream, past);
  useEffect(() => {
    const changed = () => setFull(document.fullscreenElement === root.current);
    document.addEventListener('fullscreenchange', changed);
    return () => document.removeEventListener('fullscreenchange', changed);
  }, []);

  const w = s?.slot?.width ?? stream.lastImage.value?.width ?? 1024;
  const height = s?.slot?.height ?? stream.lastImage.value?.height ?? 768;
  const live = on && phase === 'live';
  const stage = useRef<HTMLDivElement>(null);
  const [replaying, setReplaying] = useState(false);
  const recording = useRecording(stream.id, past || replaying);
  const replay = recording !== null && recording.pieces.length > 0 && (replaying || past);
  const word = replay ? texts.replay.replaying : live ? t.live : ended ? t.ended : resting ? t.resting : t.title;
  return (
    <section class={`desk ${folded ? 'folded' : ''}`} aria-label={t.title} ref={root}>
      <div class="desk-head">
        <span class="desk-live" data-live={String(live && !replay)}><i aria-hidden="true" />{word}</span>
        {s && !replay && <Takeover session={s} live={live} stage={stage} />}
        <span class="grow" />
        {s?.slot?.width && !drives && <span class="num dim opt-size">{t.size(w, height)}</span>}
        {live && !drives && <IconButton icon={replaying ? 'monitor' : 'clock'} label={replaying ? texts.replay.close : texts.replay.open} pressed={replaying} onClick={() => setReplaying(!replaying)} />}
        <span class="fold"><IconButton icon={folded ? 'chevronDown' : 'minimize'} label={folded ? t.show : t.hide} onClick={() => setFolded(!folded)} /></span>
        <IconButton
          icon={full ? 'minimize' : 'maximize'} label={full ? t.exitFull : t.full}
          onClick={() => void (full ? document.exitFullscreen() : root.current?.requestFullscreen().catch(() => undefined))}
        />
      </div>
      <div class="desk-stage" ref={stage}>
        <div class={`desk-frame ${past ? 'past' : ''} ${drives ? 'driven' : ''} ${controlOf(s)?.secret ? 'secret' : ''}`} style={{ '--ratio': String(w / height) }}>
          {on && <div class="desk-rfb" ref={target} role="img" aria-label={t.alt} />}
          {on && phase === 'connecting' && <Over title={t.connecting} />}
          {on && phase === 'lost' && <Over title={t.reconnecting} veil />}
          {!on && !past && s && (s.status === 'queued' ? <Over icon="clock" title={t.noSlot} text={t.queued} /> : <Over title={texts.chat.startingSlot} text={s.kind === 'vm' ? t.startingMachine : t.starting} />)}
          {!s && <Over title={texts.common.loading} />}
          {replay && <Replay id={stream.id} info={recording} stream={stream} />}
          {past && !replay && last && <img src={last} alt={t.lastAlt} />}
          {past && !replay && last && <span class="desk-tag" title={resting ? t.restingHint : t.endedHint}><Icon name="camera" size={14} />{t.last}</span>}
          {past && !replay && last === undefined && <Over title={texts.common.loading} />}
          {past && !replay && last === null && <Over icon="monitorOff" title={t.nothing} text={t.nothingHint} />}
        </div>
      </div>
      <Steps stream={stream} />
    </section>
  );
}
