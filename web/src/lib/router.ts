/** Addresses of the page through the history API. Documents live under /d because /documents is the API's own path; uploads under /u. */
import { signal } from '@preact/signals';

export type Route =
  | { name: 'home' }
  | { name: 'session'; id: string }
  | { name: 'documents'; id: string | null }
  | { name: 'upload'; id: string | null }
  | { name: 'settings' }
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
  if (parts[0] === 's' && parts.length === 2) return { name: 'session', id: parts[1]! };
  if ((parts[0] === 'd' || parts[0] === 'documents') && parts.length <= 2) return { name: 'documents', id: parts[1] ?? null };
  if (parts[0] === 'u' && parts.length <= 2) return { name: 'upload', id: parts[1] ?? null };
  if (parts[0] === 'settings' && parts.length === 1) return { name: 'settings' };
  return { name: 'unknown', path };
}

export const route = signal<Route>(parse(location.pathname));

export const paths = {
  home: '/',
  session: (id: string) => `/s/${encodeURIComponent(id)}`,
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
