/** One session: header, conversation, live desktop beside it. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { count, money } from '../lib/format';
import { follow, go, paths, type SessionTab } from '../lib/router';
import { renameSession, sessions } from '../state/feed';
import { SessionStream } from '../state/stream';
import { status as system } from '../state/system';
import { toastError } from '../state/toasts';
import { texts } from '../texts';
import type { Session } from '../types';
import { Blank, Boundary, Status } from '../ui/controls';
import { Icon } from '../ui/icons';
import { Chat } from './chat';
import { BudgetBar, BudgetDialog } from './budget';
import { Desktop } from './desktop';
import { lazy } from '../ui/lazy';
import { SessionActions } from './session-actions';

function Name({ s, editing, setEditing }: { s: Session; editing: boolean; setEditing: (on: boolean) => void }) {
  const name = s.session_name || texts.sessions.unnamed;
  if (!editing) {
    return <h1 class="s-title"><button type="button" class="cut" title={texts.session.rename} onClick={() => setEditing(true)}>{name}</button></h1>;
  }
  const save = (value: string) => {
    setEditing(false);
    if (value.trim() && value.trim() !== s.session_name) renameSession(s.session_id, value.trim()).catch(toastError);
  };
  return (
    <div class="s-title">
      <input
        class="input" aria-label={texts.session.renameLabel} defaultValue={s.session_name ?? ''} maxLength={200} ref={(el) => el?.focus()}
        onBlur={(e) => save(e.currentTarget.value)}
        onKeyDown={(e) => {
          if (e.key === 'Enter') e.currentTarget.blur();
          if (e.key === 'Escape') {
            e.currentTarget.value = s.session_name ?? '';
            e.currentTarget.blur();
          }
        }}
      />
    </div>
  );
}

function Metrics({ s }: { s: Session }) {
  const t = texts.session;
  const u = s.usage ?? {};
  const input = u.input_tokens ?? 0;
  const output = u.output_tokens ?? 0;
  return (
    <>
      {s.model && <span class="metric opt" title={t.model}><Icon name="sparkles" size={14} /><span class="cut">{s.model}</span></span>}
      <span class="metric" title={`${t.tokens}${u.cache_read_tokens ? `, ${t.cached(count(u.cache_read_tokens))}` : ''}`}>
        <Icon name="hash" size={14} /><b>{t.usage(count(input), count(output))}</b>
      </span>
      <span class="metric" title={t.turns}><Icon name="repeat" size={14} /><b>{u.turns ?? 0}</b><span class="sr">{t.turns}</span></span>
      <span class="metric" title={t.cost}><Icon name="coins" size={14} /><b>{money(u.cost_usd ?? 0)}</b></span>
      <BudgetBar s={s} />
    </>
  );
}

const Timeline = lazy<{ stream: SessionStream; session: Session | undefined }>(async () => (await import('./timeline')).Timeline);

const Files = lazy<{ session: Session }>(async () => (await import('./files')).Files);

const Terminal = lazy<{ session: Session }>(async () => (await import('./terminal')).TerminalView);

const SPLIT = 'berth.split';

function Splitter({ body }: { body: { current: HTMLElement | null } }) {
  const [at, setAt] = useState(() => {
    const kept = Number(localStorage.getItem(SPLIT));
    return kept >= 20 && kept <= 80 ? kept : 46;
  });
  const set = (v: number) => {
    const part = Math.round(Math.min(75, Math.max(25, v)) * 10) / 10;
    setAt(part);
    localStorage.setItem(SPLIT, String(part));
  };
  useEffect(() => body.current?.style.setProperty('--chat', `${at}%`), [at]);
  return (
    <div
      class="splitter" role="separator" tabIndex={0} aria-orientation="vertical" aria-label={texts.session.resize} aria-valuenow={Math.round(at)} aria-valuemin={25} aria-valuemax={75}
      onPointerDown={(e) => {
        e.preventDefault();
        e.currentTarget.setPointerCapture(e.pointerId);
      }}
      onPointerMove={(e) => {
        if (!e.currentTarget.hasPointerCapture(e.pointerId)) return;
        const r = body.current!.getBoundingClientRect();
        set((100 * (e.clientX - r.left)) / r.width);
      }}
      onDblClick={() => set(46)}
      onKeyDown={(e) => {
        if (e.key === 'ArrowLeft') set(at - 2);
        if (e.key === 'ArrowRight') set(at + 2);
      }}
    />
  );
}

export function SessionView({ id, tab }: { id: string; tab: SessionTab }) {
  const [stream, setStream] = useState<SessionStream | null>(null);
  const [editing, setEditing] = useState(false);
  const body = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const s = new SessionStream(id);
    setStream(s);
    return () => s.close();
  }, [id]);
  const s = sessions.value.get(id);
  const name = s?.session_name || texts.sessions.unnamed;
  useEffect(() => {
    document.title = `${name} · ${texts.product}`;
  }, [name]);

  if (stream?.missing.value || (stream?.caughtUp.value && !s)) {
    return (
      <Blank icon="searchX" title={texts.session.missing} text={texts.session.missingHint}>
        <button type="button" class="btn" onClick={() => go(paths.home)}>{texts.errors.home}</button>
      </Blank>
    );
  }
  const screen = s?.kind !== 'headless' && s?.kind !== 'external';
  return (
    <div class="session">
      <header class="s-head">
        {s && (
          <>
            <Name s={s} editing={editing} setEditing={setEditing} />
            <Status status={s.status} pill />
            {system.value?.demo === true && <span class="badge demo" title={texts.demo.stripMore}><Icon name="flask" size={12} />{texts.demo.badge}</span>}
            <div class="s-meta"><Metrics s={s} /></div>
            <SessionActions session={s} onRename={() => setEditing(true)} />
          </>
        )}
      </header>
      {s && <div class="m-meta"><Metrics s={s} /></div>}
      <nav class="s-tabs" aria-label={texts.timeline.tabs}>
        <a href={paths.session(id)} onClick={follow} aria-current={tab === 'chat' ? 'page' : undefined}><Icon name="message" size={14} />{texts.session.chat}</a>
        <a href={paths.sessionTab(id, 'timeline')} onClick={follow} aria-current={tab === 'timeline' ? 'page' : undefined}><Icon name="tree" size={14} />{texts.timeline.tab}</a>
        {s?.kind !== 'external' && <a href={paths.sessionTab(id, 'files')} onClick={follow} aria-current={tab === 'files' ? 'page' : undefined}><Icon name="folder" size={14} />{texts.files.tab}</a>}
        {s?.kind !== 'external' && <a href={paths.sessionTab(id, 'terminal')} onClick={follow} aria-current={tab === 'terminal' ? 'page' : undefined}><Icon name="terminal" size={14} />{texts.terminal.tab}</a>}
      </nav>
      <div class={`s-body ${screen ? 'split' : ''}`} data-tab={tab} ref={body}>
        <Boundary resetKey={tab}>
          {stream && (tab === 'timeline' ? <Timeline stream={stream} session={s} /> : tab === 'files' && s ? <Files session={s} /> : tab === 'terminal' && s ? <Terminal session={s} /> : <Chat stream={stream} session={s} />)}
        </Boundary>
        {screen && <Splitter body={body} />}
        {screen && stream && <Boundary><Desktop session={s} stream={stream} /></Boundary>}
      </div>
      <BudgetDialog />
    </div>
  );
}
