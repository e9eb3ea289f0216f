/** The conversation: items, what streams right now, the composer; keeps to the end unless a person scrolls up. */
import { useComputed } from '@preact/signals';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { SessionStream } from '../state/stream';
import { texts } from '../texts';
import { isWorking, type Session } from '../types';
import { Blank, Skeleton, Spinner } from '../ui/controls';
import { Icon } from '../ui/icons';
import { Composer } from './composer';
import { ItemView, Live, Said } from './items';
import { WaitingFor } from './waiting';

function Waiting({ s, busy }: { s: Session | undefined; busy: boolean }) {
  const t = texts.chat;
  if (!s || !isWorking(s.status) || busy) return null;
  return (
    <div class="working" role="status">
      <span class="dots" aria-hidden="true"><i /><i /><i /></span>
      {s.status === 'queued' ? t.waitingSlot : s.status === 'starting' ? t.startingSlot : t.working}
    </div>
  );
}

/** What streams, drawn by itself: a word more leaves the entries above it alone. */
function Speaking({ stream }: { stream: SessionStream }) {
  return <>{stream.live.value.map((b) => <Live key={b.key} block={b} />)}</>;
}

function Loading() {
  return (
    <div class="flow-in" aria-hidden="true">
      <Skeleton width="55%" height={38} />
      <Skeleton width="92%" /><Skeleton width="86%" /><Skeleton width="40%" />
      <Skeleton width="100%" height={90} />
      <Skeleton width="70%" />
    </div>
  );
}

/** A link that was lost is told only when it stays away for a moment. */
function useLost(stream: SessionStream): boolean {
  const waiting = stream.link.value === 'waiting';
  const [lost, setLost] = useState(false);
  useEffect(() => {
    if (stream.link.value === 'open') setLost(false);
    if (!waiting) return undefined;
    const t = setTimeout(() => setLost(true), 700);
    return () => clearTimeout(t);
  }, [stream.link.value]);
  return lost;
}

const NEAR = 60;
/** Entries drawn at first and added each time the top is reached: a long session opens as fast as a short one. */
const WINDOW = 200;
const HAND_MS = 600;

export function Chat({ stream, session }: { stream: SessionStream; session: Session | undefined }) {
  const flow = useRef<HTMLDivElement>(null);
  const inner = useRef<HTMLDivElement>(null);
  const stick = useRef(true);
  const hand = useRef(-HAND_MS);
  /** Where the drawn part starts; null follows the end. */
  const [start, setStart] = useState<number | null>(null);
  const keep = useRef<number | null>(null);
  const [away, setAway] = useState(false);
  const [seen, setSeen] = useState(0);
  const lost = useLost(stream);
  const items = stream.items.value;
  const speaking = useComputed(() => stream.live.value.length > 0).value;
  const sending = stream.sending.value;

  const toEnd = () => {
    if (flow.current) flow.current.scrollTop = flow.current.scrollHeight;
  };
  const from = start ?? Math.max(0, items.length - WINDOW);
  useLayoutEffect(() => {
    const f = flow.current!;
    // Entries were added above: what was in view stays there.
    if (keep.current !== null) f.scrollTop = f.scrollHeight - keep.current;
    else if (stick.current) toEnd();
    keep.current = null;
  });
  const earlier = () => {
    const f = flow.current!;
    if (from === 0) return;
    keep.current = f.scrollHeight - f.scrollTop;
    setStart(Math.max(0, from - WINDOW));
  };
  useEffect(() => {
    // Pictures and folded parts change heights after the update: stay at the end then, too.
    const o = new ResizeObserver(() => stick.current && toEnd());
    o.observe(inner.current!);
    o.observe(flow.current!);
    return () => o.disconnect();
  }, []);
  const release = () => {
    if (!stick.current) return;
    stick.current = false;
    setStart(from);
    setAway(true);
    setSeen(items.length);
  };
  const scrolled = () => {
    const f = flow.current;
    // The browser tells of a scroll a frame later: the view may be gone by then.
    if (!f) return;
    const near = f.scrollHeight - f.scrollTop - f.clientHeight < NEAR;
    if (near && !stick.current) {
      stick.current = true;
      setStart(null);
      setAway(false);
    }
    if (!stick.current && f.scrollTop < 800) earlier();
    // Content that grows or shrinks scrolls, too: only a person's hand leaves the end.
    if (!near && stick.current && performance.now() - hand.current < HAND_MS) release();
  };
  const touched = () => {
    hand.current = performance.now();
  };
  useEffect(() => {
    const f = flow.current!;
    // Asked by the list of steps: leave the end, and draw back to that entry if it is not drawn yet.
    const reveal = (e: Event) => {
      const at = items.findIndex((i) => i.key === (e as CustomEvent<string>).detail);
      release();
      if (at >= 0 && at < from) setStart(Math.max(0, at - 20));
    };
    f.addEventListener('berth:reveal', reveal);
    return () => f.removeEventListener('berth:reveal', reveal);
  });

  const busy = speaking || items.some((i, n) => n > items.length - 12 && i.kind === 'tool' && i.state === 'running');
  const empty = items.length === 0 && sending.length === 0 && !speaking;
  const fresh = away ? Math.max(0, items.length - seen) : 0;
  return (
    <section class="chat" aria-label={texts.session.chat}>
      {lost && <div class="lost" role="status"><Spinner />{texts.chat.lost}</div>}
      <div class="flow scroll" ref={flow} onScroll={scrolled} onWheel={touched} onTouchMove={touched} onKeyDown={touched} onPointerDown={touched} onPointerMove={(e) => e.buttons !== 0 && touched()} tabIndex={0} role="log" aria-label={texts.chat.startHint} aria-live="off">
        {!stream.caughtUp.value && empty ? <Loading /> : null}
        <div class="flow-in" ref={inner}>
          {from > 0 && <button type="button" class="btn plain small" onClick={earlier}>{texts.chat.earlier(from)}</button>}
          {items.slice(from).map((item, i) => <ItemView key={item.key} item={item} all={items} far={from + i < items.length - 40} />)}
          <Speaking stream={stream} />
          {sending.map((s) => <Said key={s.key} item={s} stream={stream} />)}
          <Waiting s={session} busy={busy} />
        </div>
        {stream.caughtUp.value && empty && session && !isWorking(session.status) && <Blank icon="message" title={texts.chat.empty} text={texts.chat.emptyHint} />}
      </div>
      <div class="composer">
        {away && (
          <button type="button" class="btn small to-end" onClick={() => { stick.current = true; setStart(null); setAway(false); toEnd(); }}>
            <Icon name="down" size={14} />{fresh > 0 ? texts.chat.newBelow(fresh) : texts.chat.latest}
          </button>
        )}
        <WaitingFor session={session} stream={stream} />
        <Composer stream={stream} session={session} onSent={() => { stick.current = true; setStart(null); setAway(false); }} />
      </div>
    </section>
  );
}
