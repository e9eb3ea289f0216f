/** The frame of the page: signed in or not, sidebar, the view of the address. */
import { useEffect } from 'preact/hooks';
import { paths, route, go, type SessionTab } from '../lib/router';
import { signedIn } from '../state/auth';
import { startFeed } from '../state/feed';
import { status, watchSystem } from '../state/system';
import { loadScenario } from '../state/demo';
import { connectOpen, drawerOpen, newSessionOpen, paletteOpen, shortcutsOpen, visible } from '../state/ui';
import { texts } from '../texts';
import { Blank, Boundary } from '../ui/controls';
import { Icon } from '../ui/icons';
import { lazy } from '../ui/lazy';
import { Lightbox } from '../ui/lightbox';
import { Toasts } from '../ui/toasts';
import { Connect } from './connect';
import { Home } from './home';
import { NewSession } from './new-session';
import { Sidebar } from './sidebar';
import { TopBar } from './topbar';

const SessionView = lazy<{ id: string; tab: SessionTab }>(async () => (await import('./session')).SessionView);
const Palette = lazy(async () => (await import('./palette')).Palette);
const ConnectModel = lazy(async () => (await import('./connect-model')).ConnectModel);
const Shortcuts = lazy(async () => (await import('./palette')).Shortcuts);
const AgentsView = lazy<{ id: string | null }>(async () => (await import('./agents')).AgentsView);
const UsageView = lazy(async () => (await import('./usage')).UsageView);
const HealthView = lazy(async () => (await import('./health')).HealthView);
const DocumentsView = lazy<{ id: string | null }>(async () => (await import('./documents')).DocumentsView);
const SettingsView = lazy(async () => (await import('./settings')).SettingsView);
const UploadView = lazy<{ id: string | null }>(async () => (await import('./upload')).UploadView);

function View() {
  const r = route.value;
  switch (r.name) {
    case 'home': return <Home />;
    case 'session': return <SessionView key={r.id} id={r.id} tab={r.tab} />;
    case 'agents': return <AgentsView id={r.id} />;
    case 'usage': return <UsageView />;
    case 'health': return <HealthView />;
    case 'documents': return <DocumentsView id={r.id} />;
    case 'settings': return <SettingsView />;
    case 'upload': return <UploadView id={r.id} />;
    default:
      return (
        <Blank icon="searchX" title={texts.errors.notFound} text={texts.errors.notFoundHint}>
          <button type="button" class="btn" onClick={() => go(paths.home)}>{texts.errors.home}</button>
        </Blank>
      );
  }
}

function typing(e: KeyboardEvent): boolean {
  const t = e.target as HTMLElement;
  return t.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(t.tagName) || document.querySelector('dialog[open]') !== null;
}

const GO: Record<string, string> = { s: paths.home, d: paths.documents, u: paths.upload, a: paths.agents, c: paths.usage, h: paths.health };
const G_MS = 1500;

/** The session after (or before) the open one in the list as it is filtered. */
function step(by: number): void {
  const r = route.value;
  const list = visible.value;
  const at = r.name === 'session' ? list.findIndex((s) => s.session_id === r.id) : by > 0 ? -1 : list.length;
  const next = list[at + by];
  if (next) go(paths.session(next.session_id));
}

function shortcut(key: string, afterG: boolean): boolean {
  const r = route.value;
  if (afterG && GO[key]) go(GO[key]);
  else if (key === 'n') newSessionOpen.value = true;
  else if (key === '/') document.querySelector<HTMLInputElement>('[data-shortcut="search"]')?.focus();
  else if (key === '?') shortcutsOpen.value = true;
  else if (key === 'j') step(1);
  else if (key === 'k') step(-1);
  else if (key === 't' && r.name === 'session') go(paths.sessionTab(r.id, r.tab === 'timeline' ? 'chat' : 'timeline'));
  else if (key === 'm') document.querySelector<HTMLTextAreaElement>('.composer textarea')?.focus();
  else return false;
  return true;
}

function Shell() {
  useEffect(() => {
    const stops = [startFeed(), watchSystem()];
    void loadScenario();
    let gAt = -G_MS;
    const key = (e: KeyboardEvent) => {
      if (e.key === 'Escape' && drawerOpen.value) drawerOpen.value = false;
      if ((e.ctrlKey || e.metaKey) && !e.altKey && !e.shiftKey && e.key === 'k' && !document.querySelector('dialog[open]:not(.palette)')) {
        paletteOpen.value = !paletteOpen.value;
        e.preventDefault();
        return;
      }
      if (e.metaKey || e.ctrlKey || e.altKey || typing(e)) return;
      const afterG = performance.now() - gAt < G_MS;
      gAt = e.key === 'g' && !afterG ? performance.now() : -G_MS;
      if (shortcut(e.key, afterG)) e.preventDefault();
    };
    addEventListener('keydown', key);
    return () => {
      removeEventListener('keydown', key);
      for (const stop of stops) stop();
    };
  }, []);
  const r = route.value;
  useEffect(() => {
    drawerOpen.value = false;
    if (r.name === 'documents') document.title = `${texts.documents.title} · ${texts.product}`;
    if (r.name === 'upload') document.title = `${texts.upload.title} · ${texts.product}`;
    if (r.name === 'agents' || r.name === 'usage' || r.name === 'health') document.title = `${texts[r.name].title} · ${texts.product}`;
    if (r.name === 'home') document.title = texts.product;
  }, [r]);
  return (
    <div class="shell">
      <a class="skip" href="#main">{texts.nav.skip}</a>
      <Boundary resetKey={r}><Sidebar /></Boundary>
      {drawerOpen.value && <button type="button" class="drawer-scrim" aria-label={texts.nav.close} onClick={() => (drawerOpen.value = false)} />}
      <main class="main" id="main" tabIndex={-1}>
        <TopBar />
        {status.value?.demo === true && (
          <div class="strip" role="note">
            <Icon name="flask" size={14} />
            <b>{texts.demo.strip}</b>
            <span class="cut" title={texts.demo.stripMore}>{texts.demo.stripMore}</span>
            <button type="button" onClick={() => (connectOpen.value = true)}>{texts.home.connect}</button>
          </div>
        )}
        <div class="page">
          <Boundary resetKey={JSON.stringify(r)}><View /></Boundary>
        </div>
      </main>
      <Boundary resetKey={r}>
        {newSessionOpen.value && <NewSession onClose={() => (newSessionOpen.value = false)} />}
        {paletteOpen.value && <Palette />}
        {shortcutsOpen.value && <Shortcuts />}
        {connectOpen.value && <ConnectModel />}
        <Lightbox />
      </Boundary>
    </div>
  );
}

export function App() {
  return (
    <>
      {signedIn.value ? <Shell /> : <Connect />}
      <Toasts />
    </>
  );
}
