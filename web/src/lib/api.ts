/** Requests to the gateway: bearer token, clear errors, tickets for what a browser cannot send headers with. */
import { texts } from '../texts';

const TOKEN_KEY = 'berth.token';

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly field?: string,
    readonly retryAfter?: number,
  ) {
    super(message);
  }
}

let token: string | null = null;
let onUnauthorized: () => void = () => undefined;

export function loadToken(): string | null {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const given = fragment.get('token');
  if (given) {
    storeToken(given);
    history.replaceState(history.state, '', location.pathname + location.search);
    return given;
  }
  try {
    token = localStorage.getItem(TOKEN_KEY);
  } catch {
    token = null;
  }
  return token;
}

export function storeToken(value: string | null): void {
  token = value;
  try {
    if (value) localStorage.setItem(TOKEN_KEY, value);
    else localStorage.removeItem(TOKEN_KEY);
  } catch {
    // Storage switched off: the token lives as long as the page.
  }
}

export function whenUnauthorized(fn: () => void): void {
  onUnauthorized = fn;
}

async function toError(r: Response): Promise<ApiError> {
  let code = `http_${r.status}`;
  let message = texts.errors.http(r.status);
  let field: string | undefined;
  try {
    const body = await r.json();
    if (body?.error?.message) ({ code, message, field } = body.error);
  } catch {
    // Not JSON: the sentence for the status stays.
  }
  const retry = Number(r.headers.get('Retry-After'));
  return new ApiError(r.status, code, message, field, Number.isFinite(retry) && retry > 0 ? retry : undefined);
}

export interface Options {
  method?: string;
  json?: unknown;
  /** A body that goes as it is. */
  bytes?: Blob;
  signal?: AbortSignal;
  headers?: Record<string, string>;
  /** A 401 does not sign the page out (used to test a token). */
  quiet?: boolean;
}

/** A response with a good status, or an ApiError that a person can read. */
export async function request(path: string, o: Options = {}): Promise<Response> {
  const headers: Record<string, string> = { Accept: 'application/json', ...o.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (o.json !== undefined) headers['Content-Type'] = 'application/json';
  if (o.bytes !== undefined) headers['Content-Type'] = 'application/octet-stream';
  let r: Response;
  try {
    r = await fetch(path, {
      method: o.method ?? 'GET',
      headers,
      body: o.bytes ?? (o.json === undefined ? null : JSON.stringify(o.json)),
      signal: o.signal ?? null,
      cache: 'no-store',
    });
  } catch (e) {
    if (o.signal?.aborted) throw e;
    throw new ApiError(0, 'unreachable', texts.errors.unreachable);
  }
  if (r.ok || r.status === 304) return r;
  if (r.status === 401 && !o.quiet) onUnauthorized();
  throw await toError(r);
}

export async function getJson<T>(path: string, o: Options = {}): Promise<T> {
  return (await request(path, o)).json() as Promise<T>;
}

export async function postJson<T>(path: string, json: unknown, o: Options = {}): Promise<T> {
  return (await request(path, { method: 'POST', json, ...o })).json() as Promise<T>;
}

/** A short-lived ticket, good for one use, for an address that is opened without our header. */
export async function ticket(): Promise<string> {
  const t = await postJson<{ ticket: string }>('/tickets', {});
  return t.ticket;
}

export async function withTicket(path: string): Promise<string> {
  const t = await ticket();
  return `${path}${path.includes('?') ? '&' : '?'}token=${encodeURIComponent(t)}`;
}

export function socketUrl(path: string): string {
  return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${path}`;
}

/** Upload with progress: fetch cannot tell how far a request body is, XMLHttpRequest can. */
export function upload<T>(path: string, form: FormData, onProgress: (part: number) => void, signal?: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const x = new XMLHttpRequest();
    x.open('POST', path);
    x.setRequestHeader('Accept', 'application/json');
    if (token) x.setRequestHeader('Authorization', `Bearer ${token}`);
    x.upload.onprogress = (e) => e.lengthComputable && onProgress(e.loaded / e.total);
    x.onerror = () => reject(new ApiError(0, 'unreachable', texts.errors.unreachable));
    x.onabort = () => reject(new ApiError(0, 'aborted', texts.errors.aborted));
    x.onload = () => {
      let body: { error?: { code: string; message: string } } & T;
      try {
        body = JSON.parse(x.responseText);
      } catch {
        reject(new ApiError(x.status, `http_${x.status}`, texts.errors.http(x.status)));
        return;
      }
      if (x.status >= 200 && x.status < 300) resolve(body);
      else {
        if (x.status === 401) onUnauthorized();
        reject(new ApiError(x.status, body.error?.code ?? `http_${x.status}`, body.error?.message ?? texts.errors.http(x.status)));
      }
    };
    signal?.addEventListener('abort', () => x.abort());
    x.send(form);
  });
}
