/** The frame of the page: signed in or not, sidebar, the view of the address. */
import { useEffect } from 'preact/hooks';
import { paths, route, go } from '../lib/router';
import { signedIn } from '../state/auth';
import { startFeed } from '../state/feed';
import { status, watchSystem } from '../state/system';
import { loadScenario } from '../state/demo';
import { drawerOpen, newSessionOpen } from '../state/ui';
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

const SessionView = lazy<{ id: string }>(async () => (await import('./session')).SessionView);
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
    case 'session': return <SessionView key={r.id} id={r.id} />;
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

function Shell() {
  useEffect(() => {
    const stops = [startFeed(), watchSystem()];
    void loadScenario();
    const key = (e: KeyboardEvent) => {
      if (e.key === 'Escape' && drawerOpen.value) drawerOpen.value = false;
      if (e.metaKey || e.ctrlKey || e.altKey || typing(e)) return;
      if (e.key === 'n') newSessionOpen.value = true;
      else if (e.key === '/') document.querySelector<HTMLInputElement>('[data-shortcut="search"]')?.focus();
      else return;
      e.preventDefault();
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
      <Sidebar />
      {drawerOpen.value && <button type="button" class="drawer-scrim" aria-label={texts.nav.close} onClick={() => (drawerOpen.value = false)} />}
      <main class="main" id="main" tabIndex={-1}>
        <TopBar />
        {status.value?.demo === true && (
          <div class="strip" role="note">
            <Icon name="flask" size={14} />
            <b>{texts.demo.strip}</b>
            <span class="cut" title={texts.demo.stripMore}>{texts.demo.stripMore}</span>
          </div>
        )}
        <div class="page">
          <Boundary resetKey={JSON.stringify(r)}><View /></Boundary>
        </div>
      </main>
      {newSessionOpen.value && <NewSession onClose={() => (newSessionOpen.value = false)} />}
      <Lightbox />
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
