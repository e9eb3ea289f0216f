/** Addresses of the page through the history API. One letter each, because /documents, /agents and the like are the API's own paths. */
import { signal } from '@preact/signals';

export const SESSION_TABS = ['chat', 'timeline', 'files', 'terminal'] as const;
export type SessionTab = (typeof SESSION_TABS)[number];
/** In place of a name: the form of a new agent. No agent can be called so. */
export const NEW_AGENT = '+';

export type Route =
  | { name: 'home' }
  | { name: 'session'; id: string; tab: SessionTab }
  | { name: 'documents'; id: string | null }
  | { name: 'upload'; id: string | null }
  | { name: 'settings' }
  | { name: 'agents'; id: string | null }
  | { name: 'usage' }
  | { name: 'health' }
  | { name: 'unknown'; path: string };

function parse(path: string): Route {
  const parts = path.split('/').filter(Boolean).map((p) => {
    try {
      return decodeURIComponent(p);
    } catch {
      return p;
    }
  });
  if (parts.length === 0) return { name: 'home' };
  if (parts[0] === 's' && parts.length === 2) return { name: 'session', id: parts[1]!, tab: 'chat' };
  const tab = SESSION_TABS.find((t) => t === parts[2]);
  if (parts[0] === 's' && parts.length === 3 && tab) return { name: 'session', id: parts[1]!, tab };
  if (parts[0] === 'a' && parts.length <= 2) return { name: 'agents', id: parts[1] ?? null };
  if (parts[0] === 'c' && parts.length === 1) return { name: 'usage' };
  if (parts[0] === 'w' && parts.length === 1) return { name: 'health' };
  if ((parts[0] === 'd' || parts[0] === 'documents') && parts.length <= 2) return { name: 'documents', id: parts[1] ?? null };
  if (parts[0] === 'u' && parts.length <= 2) return { name: 'upload', id: parts[1] ?? null };
  if (parts[0] === 'settings' && parts.length === 1) return { name: 'settings' };
  return { name: 'unknown', path };
}

export const route = signal<Route>(parse(location.pathname));

export const paths = {
  home: '/',
  session: (id: string) => `/s/${encodeURIComponent(id)}`,
  sessionTab: (id: string, tab: SessionTab) => `/s/${encodeURIComponent(id)}${tab === 'chat' ? '' : `/${tab}`}`,
  agents: '/a',
  agent: (name: string) => `/a/${encodeURIComponent(name)}`,
  usage: '/c',
  health: '/w',
  documents: '/d',
  upload: '/u',
  settings: '/settings',
  run: (id: string) => `/u/${encodeURIComponent(id)}`,
  document: (id: string) => `/d/${encodeURIComponent(id)}`,
};

export function go(path: string, replace = false): void {
  if (path === location.pathname) return;
  if (replace) history.replaceState(null, '', path);
  else history.pushState(null, '', path);
  route.value = parse(location.pathname);
}

addEventListener('popstate', () => {
  route.value = parse(location.pathname);
});

/** Click handler for links: a plain click stays in the page, a modified one keeps the browser's meaning. */
export function follow(e: MouseEvent): void {
  if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
  const a = e.currentTarget as HTMLAnchorElement;
  e.preventDefault();
  go(a.pathname);
}
