/** The command palette: sessions, views and what can be done, found by typing. And the sheet of shortcuts. */
import { useEffect, useState } from 'preact/hooks';
import { go, paths, route } from '../lib/router';
import { reconnect, sessions, sorted } from '../state/feed';
import { runDemo, scenario } from '../state/demo';
import { theme } from '../state/theme';
import { budgetOpen, connectOpen, newSessionOpen, paletteOpen, shortcutsOpen } from '../state/ui';
import { texts } from '../texts';
import { isLive } from '../types';
import { Dialog, useModal } from '../ui/controls';
import { Icon, type IconName } from '../ui/icons';
import { act, canInterrupt, canPause, fork } from './session-actions';

interface Command { id: string; icon: IconName; text: string; more?: string; keys?: string; run: () => void }
const MOST = 50;

function commands(): Command[] {
  const t = texts.palette;
  const r = route.value;
  const s = r.name === 'session' ? sessions.value.get(r.id) : undefined;
  const view = (id: string, icon: IconName, text: string, path: string, keys?: string): Command => ({ id, icon, text: t.open(text), keys, run: () => go(path) });
  const all: Command[] = [];
  if (s) {
    const on = (id: string, icon: IconName, text: string, run: () => void) => all.push({ id, icon, text: `${text}: ${s.session_name || texts.sessions.unnamed}`, run });
    if (s.status === 'paused') on('resume', 'play', texts.session.resume, () => act(s, 'resume'));
    if (canPause(s)) on('pause', 'pause', texts.session.pause, () => act(s, 'pause'));
    if (canInterrupt(s)) on('interrupt', 'interrupt', texts.session.interrupt, () => act(s, 'interrupt'));
    if (isLive(s.status)) on('stop', 'stop', texts.session.stop, () => act(s, 'stop'));
    on('timeline', 'tree', texts.timeline.tab, () => go(paths.sessionTab(s.session_id, 'timeline')));
    if (s.kind !== 'external') {
      on('budget', 'gauge', texts.budget.title, () => (budgetOpen.value = s.session_id));
      on('fork', 'fork', texts.session.fork, () => void fork(s));
    }
  }
  all.push({ id: 'new', icon: 'plus', text: texts.sessions.new, keys: 'n', run: () => (newSessionOpen.value = true) });
  all.push({ id: 'connect', icon: 'plug', text: texts.home.connect, run: () => (connectOpen.value = true) });
  if (scenario.value) all.push({ id: 'demo', icon: 'flask', text: texts.demo.run, run: () => void runDemo() });
  all.push(
    view('home', 'activity', texts.nav.sessions, paths.home, 'g s'), view('documents', 'files', texts.nav.documents, paths.documents, 'g d'), view('upload', 'upload', texts.nav.upload, paths.upload, 'g u'),
    view('agents', 'bot', texts.nav.agents, paths.agents, 'g a'), view('usage', 'chart', texts.nav.usage, paths.usage, 'g c'), view('health', 'server', texts.nav.health, paths.health, 'g h'), view('settings', 'wrench', t.settings, paths.settings),
    { id: 'reference', icon: 'link', text: t.reference, run: () => void window.open('/reference.html', '_blank', 'noopener') },
    { id: 'theme', icon: 'sunMoon', text: t.theme, run: () => (theme.value = theme.value === 'dark' ? 'light' : 'dark') },
    { id: 'reconnect', icon: 'refresh', text: texts.link.retry, run: reconnect }, { id: 'keys', icon: 'keyboard', text: t.shortcuts, keys: '?', run: () => (shortcutsOpen.value = true) },
  );
  for (const x of sorted.value) all.push({ id: x.session_id, icon: 'message', text: x.session_name || texts.sessions.unnamed, more: texts.status[x.status], run: () => go(paths.session(x.session_id)) });
  return all;
}

/** Every word that was typed must be in it; what begins with the first one comes first. */
function find(all: Command[], q: string): Command[] {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  const found = all.filter((c) => words.every((w) => c.text.toLowerCase().includes(w) || c.id.startsWith(w)));
  return found.sort((a, b) => Number(b.text.toLowerCase().startsWith(words[0] ?? '')) - Number(a.text.toLowerCase().startsWith(words[0] ?? ''))).slice(0, MOST);
}

export function Palette() {
  const t = texts.palette;
  const box = useModal();
  const [q, setQ] = useState('');
  const [at, setAt] = useState(0);
  const close = () => (paletteOpen.value = false);
  const list = find(commands(), q);
  const run = (c: Command | undefined) => {
    if (!c) return;
    close();
    c.run();
  };
  useEffect(() => box.current?.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: 'nearest' }), [at, q]);
  return (
    <dialog ref={box} class="dialog palette" aria-label={t.title} onCancel={(e) => { e.preventDefault(); close(); }} onMouseDown={(e) => e.target === box.current && close()}>
      <label class="search">
        <span class="sr">{t.title}</span><Icon name="command" size={16} />
        <input
          class="input" autofocus role="combobox" aria-expanded="true" aria-controls="palette-list" aria-activedescendant={list[at] ? `palette-${list[at].id}` : undefined} placeholder={t.placeholder} value={q}
          onInput={(e) => { setQ(e.currentTarget.value); setAt(0); }}
          onKeyDown={(e) => {
            if (e.key === 'ArrowDown') setAt(Math.min(list.length - 1, at + 1));
            else if (e.key === 'ArrowUp') setAt(Math.max(0, at - 1));
            else if (e.key === 'Enter') run(list[at]);
            else return;
            e.preventDefault();
          }}
        />
      </label>
      <ul class="palette-list scroll" id="palette-list" role="listbox" aria-label={t.title}>
        {list.map((c, i) => (
          <li key={c.id} id={`palette-${c.id}`} role="option" aria-selected={i === at} onMouseMove={() => setAt(i)} onClick={() => run(c)}>
            <Icon name={c.icon} size={15} /><span class="cut">{c.text}</span>{c.more && <span class="dim">{c.more}</span>}{c.keys && <kbd>{c.keys}</kbd>}
          </li>
        ))}
      </ul>
      {list.length === 0 && <p class="dim palette-none">{t.none}</p>}
    </dialog>
  );
}

export function Shortcuts() {
  const t = texts.palette;
  return (
    <Dialog title={t.shortcuts} onClose={() => (shortcutsOpen.value = false)}>
      <dl class="keys">{t.keys.map(([k, what]) => <div key={k}><dt>{k.split(' ').map((x) => <kbd key={x}>{x}</kbd>)}</dt><dd>{what}</dd></div>)}</dl>
    </Dialog>
  );
}
