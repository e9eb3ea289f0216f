/** The left side: where one is, all sessions with search and filter, connection and system at the foot. */
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { follow, paths, route } from '../lib/router';
import { ago, count, full, money } from '../lib/format';
import { signOut } from '../state/auth';
import { now } from '../state/clock';
import { activity, link, loaded, reconnect } from '../state/feed';
import { ready, status } from '../state/system';
import { theme, type Theme } from '../state/theme';
import { agentNames, clearFilters, drawerOpen, group, groupCounts, GROUPS, newSessionOpen, onlyAgent, onlyStatus, search, sortBy, SORTS, visible, type Sort } from '../state/ui';
import { texts } from '../texts';
import { isWorking, type Session, type SessionStatus } from '../types';
import { Blank, copyText, IconButton, MenuItem, Popover, Skeleton, Status } from '../ui/controls';
import { Icon, Mark, type IconName } from '../ui/icons';

export const kindIcon = (kind: string | undefined): IconName => (kind === 'headless' ? 'terminal' : kind === 'external' ? 'link' : 'monitor');

const folderName = (path: string): string => path.split('/').filter(Boolean).at(-1) ?? path;

function Card({ s, current }: { s: Session; current: boolean }) {
  const t = texts.session;
  const doing = isWorking(s.status) ? activity.value.get(s.session_id) : undefined;
  const cost = s.usage?.cost_usd ?? 0;
  return (
    <>
      <a class="card" href={paths.session(s.session_id)} onClick={follow} aria-current={current ? 'page' : undefined} data-session={s.session_id}>
        <span class="card-top">
          <span class="card-name cut">{s.session_name || <>{texts.sessions.unnamed} <span class="dim mono">{s.session_id.slice(0, 8)}</span></>}</span>
          <time class="card-time" dateTime={s.modified_at} title={`${t.created} ${full(s.created_at)}\n${t.modified} ${full(s.modified_at)}`}>{ago(s.modified_at, now.value)}</time>
        </span>
        {doing && <span class="card-mid"><span class="cut">{doing}</span></span>}
        <span class="card-low">
          <Status status={s.status} />
          <span class="meta">
            {s.project_dir && <span class="folder" title={s.project_dir}><Icon name="folder" size={12} /><span class="cut">{folderName(s.project_dir)}</span></span>}
            {s.agent_name && <span class="cut agent-badge" title={`${t.agent}: ${s.agent_name}`}>{s.agent_name}</span>}
            {cost > 0 && <span class="num">{money(cost)}</span>}
            <span title={texts.kinds[s.kind ?? ''] ?? s.kind}><Icon name={kindIcon(s.kind)} size={13} /><span class="sr">{texts.kinds[s.kind ?? ''] ?? s.kind}</span></span>
          </span>
        </span>
      </a>
      <span class="card-copy"><IconButton icon="copy" small size={13} label={`${t.copyId}: ${s.session_name || s.session_id.slice(0, 8)}`} onClick={() => void copyText(s.session_id)} /></span>
    </>
  );
}

const CARD = 57;
const CARD_BUSY = 77;
const AROUND = 400;

/** Thousands of sessions: only the cards in view are drawn. A card is of one of two heights. */
function Cards({ list, current }: { list: Session[]; current: string | null }) {
  const ul = useRef<HTMLUListElement>(null);
  const [view, setView] = useState({ top: 0, height: 900 });
  useLayoutEffect(() => {
    const box = ul.current!.parentElement!;
    const look = () => setView({ top: box.scrollTop, height: box.clientHeight });
    look();
    box.addEventListener('scroll', look, { passive: true });
    const o = new ResizeObserver(look);
    o.observe(box);
    return () => {
      box.removeEventListener('scroll', look);
      o.disconnect();
    };
  }, []);
  const shown = [];
  let y = 0;
  for (const s of list) {
    const h = isWorking(s.status) && activity.value.has(s.session_id) ? CARD_BUSY : CARD;
    if (y + h > view.top - AROUND && y < view.top + view.height + AROUND) shown.push({ s, y, h });
    y += h;
  }
  return (
    <ul ref={ul} class="cards" style={{ height: `${y}px` }}>
      {shown.map((c) => <li key={c.s.session_id} style={{ top: `${c.y}px`, height: `${c.h}px` }}><Card s={c.s} current={c.s.session_id === current} /></li>)}
    </ul>
  );
}

function Arrange() {
  const t = texts.sessions;
  const narrowed = onlyStatus.value !== '' || onlyAgent.value !== '';
  return (
    <Popover label={t.arrange} role="dialog" buttonClass={`icon-btn ${narrowed ? 'narrowed' : ''}`} panelClass="pop arrange" button={<Icon name="sliders" size={14} />}>
      {() => (
        <>
          <label class="field"><span class="label">{t.sort}</span><select class="input" data-sort value={sortBy.value} onChange={(e) => (sortBy.value = e.currentTarget.value as Sort)}>{SORTS.map((k) => <option key={k} value={k}>{t.sorts[k]}</option>)}</select></label>
          <label class="field"><span class="label">{t.onlyStatus}</span><select class="input" data-status-filter value={onlyStatus.value} onChange={(e) => (onlyStatus.value = e.currentTarget.value as SessionStatus | '')}><option value="">{t.any}</option>{Object.entries(texts.status).map(([k, v]) => <option key={k} value={k}>{v}</option>)}</select></label>
          <label class="field"><span class="label">{t.onlyAgent}</span><select class="input" data-agent-filter value={onlyAgent.value} onChange={(e) => (onlyAgent.value = e.currentTarget.value)}><option value="">{t.any}</option>{agentNames.value.map((n) => <option key={n} value={n}>{n}</option>)}</select></label>
        </>
      )}
    </Popover>
  );
}

function List() {
  const r = route.value;
  const current = r.name === 'session' ? r.id : null;
  if (!loaded.value) {
    return (
      <div aria-hidden="true">
        {[150, 190, 120, 170].map((w) => (
          <div class="card" key={w}><Skeleton width={w} /><Skeleton width={80} /></div>
        ))}
      </div>
    );
  }
  const list = visible.value;
  if (list.length > 0) return <Cards list={list} current={current} />;
  if (groupCounts.value.all === 0) return <Blank icon="ship" title={texts.sessions.none} text={texts.sessions.noneHint} />;
  return (
    <Blank icon="searchX" title={texts.sessions.noMatch}>
      <button type="button" class="btn small" onClick={clearFilters}>{texts.sessions.clear}</button>
    </Blank>
  );
}

const THEMES: [Theme, IconName][] = [['system', 'sunMoon'], ['light', 'sun'], ['dark', 'moon']];

function workersText(): string {
  const w = ready.value?.workers;
  if (typeof w === 'number') return texts.system.workers(w);
  if (Array.isArray(w)) return texts.system.workers(w.length);
  if (w !== null && typeof w === 'object') {
    const o = w as { count?: number; ready?: number };
    const n = o.count ?? o.ready;
    if (typeof n === 'number') return texts.system.workers(n);
  }
  return '';
}

function System() {
  const t = texts.system;
  const r = ready.value;
  const s = status.value;
  const word = r === null ? t.unknown : r.ready ? t.ready : t.notReady;
  const more = [workersText(), s?.demo ? texts.demo.badge : s?.model].filter(Boolean).join(' · ');
  return (
    <Popover
      label={t.status} named role="dialog" side="start" buttonClass="sys" panelClass="pop" data={{ 'data-ready': String(r?.ready ?? 'unknown') }}
      button={<><b><i aria-hidden="true" />{word}</b><span class="cut">{more || ' '}</span></>}
    >
      {() => (
        <>
          <h3>{t.status}</h3>
          <ul>
            {(s?.daemons ?? []).map((d) => (
              <li key={d.name}><i class={d.ok === false ? 'off' : ''} aria-hidden="true" />{d.name}<span>{d.ok === false ? t.down : (d.version ?? t.up)}</span></li>
            ))}
          </ul>
          <p>{t.model}: {s?.demo ? texts.demo.strip : (s?.model ?? '–')}</p>
          {r?.ready === false && <p>{t.notReadyHint}</p>}
        </>
      )}
    </Popover>
  );
}

type ViewName = 'home' | 'documents' | 'upload' | 'agents' | 'usage' | 'health';
/** The view, its address, its icon, and another route that belongs to it. */
const VIEWS: [ViewName, string, IconName, string?][] = [
  ['home', paths.home, 'activity', 'session'], ['documents', paths.documents, 'files'], ['upload', paths.upload, 'upload'], ['agents', paths.agents, 'bot'], ['usage', paths.usage, 'chart'], ['health', paths.health, 'server'],
];

function ThemeMenu() {
  return (
    <Popover label={texts.theme.label} side="start" buttonClass="icon-btn" panelClass="" button={<Icon name={THEMES.find((t) => t[0] === theme.value)![1]} size={18} />}>
      {(close) => (
        <>
          {THEMES.map(([name, icon]) => (
            <button key={name} type="button" role="menuitemradio" aria-checked={theme.value === name} onClick={() => { theme.value = name; close(); }}>
              <Icon name={icon} size={15} />{texts.theme[name]}{theme.value === name && <Icon name="check" size={14} class="end" />}
            </button>
          ))}
          <hr />
          <MenuItem icon="logOut" text={texts.system.signOut} onClick={() => { close(); signOut(); }} />
        </>
      )}
    </Popover>
  );
}

export function Sidebar() {
  const side = useRef<HTMLElement>(null);
  const open = drawerOpen.value;
  useEffect(() => {
    if (open) side.current?.querySelector<HTMLElement>('a, button')?.focus();
  }, [open]);
  const r = route.value;
  const l = link.value;
  return (
    <aside ref={side} class={`side ${open ? 'open' : ''}`} onKeyDown={(e) => e.key === 'Escape' && (drawerOpen.value = false)}>
      <div class="rail">
        <a class="rail-mark" href={paths.home} onClick={follow} aria-label={texts.product}><Mark size={30} /></a>
        <nav class="side-nav" aria-label={texts.nav.main}>
          {VIEWS.map(([view, to, icon, also]) => (
            <a key={view} href={to} onClick={follow} aria-current={r.name === view || r.name === also ? 'page' : undefined}><Icon name={icon} size={18} />{texts.nav[view === 'home' ? 'sessions' : view]}</a>
          ))}
        </nav>
        <span class="grow" />
        <a class="icon-btn" href={paths.settings} onClick={follow} aria-label={texts.people.title} title={texts.people.title} aria-current={r.name === 'settings' ? 'page' : undefined}><Icon name="settings" size={18} /></a>
        <ThemeMenu />
      </div>
      <div class="side-main">
        <div class="side-head">
          <b class="brand">{texts.product}</b>
          <span class="grow" />
          <button type="button" class="light" data-link={l} title={l === 'waiting' ? `${texts.link.hint[l]} ${texts.link.retry}.` : texts.link.hint[l]} onClick={reconnect}>
            <i aria-hidden="true" /><span role="status">{texts.link[l]}</span>
          </button>
          {drawerOpen.value && <IconButton icon="x" label={texts.nav.close} onClick={() => (drawerOpen.value = false)} />}
        </div>
        <div class="side-tools">
          <button type="button" class="btn primary wide" onClick={() => (newSessionOpen.value = true)}><Icon name="plus" size={15} />{texts.sessions.new}</button>
          <div class="side-search">
            <label class="search">
              <span class="sr">{texts.sessions.search}</span>
              <Icon name="search" size={14} />
              <input class="input" type="search" data-shortcut="search" placeholder={texts.sessions.search} value={search.value} onInput={(e) => (search.value = e.currentTarget.value)} />
              {search.value === '' && <kbd aria-hidden="true">/</kbd>}
            </label>
            <Arrange />
          </div>
          <div class="side-filters" role="group" aria-label={texts.sessions.filter}>
            {GROUPS.map((g) => (
              <button key={g} type="button" aria-pressed={group.value === g} onClick={() => (group.value = g)}>
                {texts.sessions.groups[g]}<span class="n">{count(groupCounts.value[g])}</span>
              </button>
            ))}
          </div>
        </div>
        <nav class="side-list scroll" aria-label={texts.sessions.list}><List /></nav>
        <div class="side-foot"><System /></div>
      </div>
    </aside>
  );
}
