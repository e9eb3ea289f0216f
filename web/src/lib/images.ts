/** Pictures behind the bearer token: fetched once, kept as object URLs, the longest unused given back when there are many. */
import { request } from './api';

const MOST = 300;
const cache = new Map<string, Promise<string>>();

export function imageUrl(path: string): Promise<string> {
  const known = cache.get(path);
  if (known) {
    cache.delete(path);
    cache.set(path, known);
    return known;
  }
  const made = request(path, { headers: { Accept: 'image/*' } })
    .then((r) => r.blob())
    .then((b) => {
      if (!b.type.startsWith('image/')) throw new TypeError('not a picture');
      return URL.createObjectURL(b);
    });
  cache.set(path, made);
  made.catch(() => cache.delete(path));
  if (cache.size > MOST) {
    const [oldest, url] = cache.entries().next().value!;
    cache.delete(oldest);
    // Whoever shows it right now keeps its decoded pixels; a later view fetches it again.
    url.then((u) => URL.revokeObjectURL(u)).catch(() => undefined);
  }
  return made;
}

/** The newest frame of a session: never cached, the caller gives the URL back. */
export async function frameUrl(sessionId: string, width?: number): Promise<string> {
  const r = await request(`/sessions/${encodeURIComponent(sessionId)}/screenshot${width ? `?width=${width}` : ''}`, {
    headers: { Accept: 'image/webp,image/png' },
  });
  return URL.createObjectURL(await r.blob());
}
