/** People and rights: tokens, users, tenants, the audit log. What the token may not see is not offered. */
import { useCallback, useEffect, useState } from 'preact/hooks';
import { ApiError, getJson, request } from '../lib/api';
import { ago, full } from '../lib/format';
import { now } from '../state/clock';
import { toast } from '../state/toasts';
import { texts } from '../texts';
import { Blank, Confirm, Dialog, Skeleton, Spinner } from '../ui/controls';
import { Icon } from '../ui/icons';

const t = texts.people;

interface Me { tenant: string; name: string; role: 'viewer' | 'operator' | 'admin'; installation: boolean }
interface Token { token_id: string; name: string; role: string; user_name: string | null; scopes: string[]; last_used_at: string | null; expires_at: string | null; revoked_at: string | null }
interface User { name: string; role: string; disabled: boolean; created_at: string }
interface Tenant { name: string; limits: { sessions_live?: number; slots?: number }; disabled: boolean }
interface Act { seq: number; timestamp: string; actor: string; address: string; action: string; target: string; result: string }

const ROLES = ['viewer', 'operator', 'admin'] as const;
const when = (text: string | null) => (text ? <time dateTime={text} title={full(text)}>{Date.parse(text) > now.value ? full(text) : ago(text, now.value)}</time> : '–');
const failed = (e: unknown) => toast('error', t.failed, e instanceof ApiError ? e.message : String(e));

/** A list of the API, read again by reload(). */
function useList<T>(path: string, member: string): { rows: T[] | null; error: string | null; reload: () => void } {
  const [rows, setRows] = useState<T[] | null>(null);
  const [error, setError] = useState<string | null>(null);
  const reload = useCallback(() => {
    getJson<Record<string, T[]>>(path).then(
      (r) => { setRows(r[member] ?? []); setError(null); },
      (e) => setError(e instanceof ApiError ? e.message : String(e)),
    );
  }, [path, member]);
  useEffect(reload, [reload]);
  return { rows, error, reload };
}

function Table<T>(props: { list: { rows: T[] | null; error: string | null; reload: () => void }; head: string[]; row: (r: T) => preact.JSX.Element; empty: string }) {
  const { rows, error, reload } = props.list;
  if (error) return <Blank icon="alert" title={error}><button type="button" class="btn" onClick={reload}>{texts.common.retry}</button></Blank>;
  if (!rows) return <div class="settings-wait"><Skeleton width="60%" /><Skeleton width="80%" /><Skeleton width="70%" /></div>;
  if (rows.length === 0) return <Blank icon="info" title={props.empty} />;
  return (
    <div class="table-box scroll" tabIndex={0}>
      <table class="settings-table">
        <thead><tr>{props.head.map((h) => <th key={h} scope="col">{h}</th>)}</tr></thead>
        <tbody>{rows.map(props.row)}</tbody>
      </table>
    </div>
  );
}

function RoleSelect({ value, onChange, label }: { value: string; onChange: (role: string) => void; label: string }) {
  return (
    <select class="input" aria-label={label} value={value} onChange={(e) => onChange(e.currentTarget.value)}>
      {ROLES.map((r) => <option key={r} value={r}>{t.roles[r]}</option>)}
    </select>
  );
}

/** The secret is shown in this dialog only; closing it is the end of it. */
function NewToken({ onClose, onMade }: { onClose: () => void; onMade: () => void }) {
  const [name, setName] = useState('');
  const [role, setRole] = useState('operator');
  const [secret, setSecret] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState<string | null>(null);
  const make = () => {
    setBusy(true);
    setWrong(null);
    getJson<{ token: string }>('/tokens', { method: 'POST', json: { name: name.trim(), role } })
      .then((r) => { setSecret(r.token); onMade(); }, (e) => setWrong(e instanceof ApiError ? e.message : String(e)))
      .finally(() => setBusy(false));
  };
  const copy = () => navigator.clipboard.writeText(secret!).then(() => toast('good', texts.common.copied), failed);
  return (
    <Dialog
      small
      title={t.newToken}
      onClose={onClose}
      {...(secret ? {} : { onSubmit: make })}
      foot={secret
        ? <button type="button" class="btn primary" onClick={onClose}>{t.done}</button>
        : <button type="submit" class="btn primary" disabled={busy || name.trim() === ''}>{busy && <Spinner />}{t.create}</button>}
    >
      {secret ? (
        <div class="settings-secret">
          <p>{t.once}</p>
          <code>{secret}</code>
          <button type="button" class="btn" onClick={() => void copy()}><Icon name="copy" size={14} />{texts.common.copy}</button>
        </div>
      ) : (
        <>
          <label class="field"><span class="label">{t.tokenName}</span>
            <input class="input" value={name} maxLength={64} autofocus placeholder={t.tokenNameHint} onInput={(e) => setName(e.currentTarget.value)} />
          </label>
          <div class="field"><span class="label">{t.role}</span><RoleSelect value={role} onChange={setRole} label={t.role} /></div>
          <p class="dim">{t.roleHint[role as keyof typeof t.roleHint]}</p>
          {wrong && <p class="wrong" role="alert"><Icon name="alert" size={14} />{wrong}</p>}
        </>
      )}
    </Dialog>
  );
}

function Tokens() {
  const list = useList<Token>('/tokens?limit=1000', 'tokens');
  const [making, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<Token | null>(null);
  const revoke = () => request(`/tokens/${encodeURIComponent(revoking!.token_id)}`, { method: 'DELETE' }).then(() => { setRevoking(null); list.reload(); }, failed);
  const standing = list.rows?.filter((r) => !r.revoked_at) ?? null;
  return (
    <>
      <div class="settings-bar"><p class="dim">{t.tokensLead}</p><button type="button" class="btn primary" onClick={() => setMaking(true)}><Icon name="plus" size={15} />{t.newToken}</button></div>
      <Table
        list={{ ...list, rows: standing }}
        empty={t.noTokens}
        head={[t.tokenName, t.role, t.scopes, t.lastUsed, t.expires, '']}
        row={(r) => (
          <tr key={r.token_id}>
            <td class="cut">{r.name}{r.user_name && <span class="dim"> {r.user_name}</span>}</td>
            <td>{t.roles[r.role as keyof typeof t.roles] ?? r.role}</td>
            <td class="cut">{r.scopes.length > 0 ? r.scopes.join(', ') : t.allScopes}</td>
            <td>{when(r.last_used_at)}</td>
            <td>{when(r.expires_at)}</td>
            <td class="end"><button type="button" class="btn small" onClick={() => setRevoking(r)}>{t.revoke}</button></td>
          </tr>
        )}
      />
      {making && <NewToken onClose={() => setMaking(false)} onMade={list.reload} />}
      {revoking && <Confirm title={t.revokeTitle(revoking.name)} text={t.revokeText} action={t.revoke} onClose={() => setRevoking(null)} onConfirm={revoke} />}
    </>
  );
}

function Users() {
  const list = useList<User>('/users?limit=1000', 'users');
  const [name, setName] = useState('');
  const change = (r: User, json: object) => request(`/users/${encodeURIComponent(r.name)}`, { method: 'PATCH', json }).then(list.reload, failed);
  const add = (e: Event) => {
    e.preventDefault();
    request('/users', { method: 'POST', json: { name: name.trim(), role: 'operator' } }).then(() => { setName(''); list.reload(); }, failed);
  };
  return (
    <>
      <form class="settings-bar" onSubmit={add}>
        <label class="sr" for="user-name">{t.userName}</label>
        <input id="user-name" class="input" value={name} maxLength={64} placeholder={t.userNameHint} onInput={(e) => setName(e.currentTarget.value)} />
        <button type="submit" class="btn" disabled={name.trim() === ''}><Icon name="plus" size={15} />{t.addUser}</button>
      </form>
      <Table
        list={list}
        empty={t.noUsers}
        head={[t.userName, t.role, t.state, '']}
        row={(r) => (
          <tr key={r.name}>
            <td class="cut">{r.name}</td>
            <td><RoleSelect value={r.role} label={t.roleOf(r.name)} onChange={(role) => void change(r, { role })} /></td>
            <td>{r.disabled ? t.disabled : t.active}</td>
            <td class="end"><button type="button" class="btn small" onClick={() => void change(r, { disabled: !r.disabled })}>{r.disabled ? t.enable : t.disable}</button></td>
          </tr>
        )}
      />
    </>
  );
}

function Tenants() {
  const list = useList<Tenant>('/tenants?limit=1000', 'tenants');
  const [name, setName] = useState('');
  const add = (e: Event) => {
    e.preventDefault();
    request('/tenants', { method: 'POST', json: { name: name.trim() } }).then(() => { setName(''); list.reload(); }, failed);
  };
  const change = (r: Tenant, json: object) => request(`/tenants/${encodeURIComponent(r.name)}`, { method: 'PATCH', json }).then(list.reload, failed);
  const limit = (r: Tenant, key: 'slots' | 'sessions_live') => (
    <input
      class="input settings-number" type="number" min={0} max={1000000} aria-label={t.limitOf(t[key], r.name)} placeholder={t.noLimit} value={r.limits[key] ?? ''}
      onChange={(e) => void change(r, { limits: { [key]: e.currentTarget.value === '' ? null : Number(e.currentTarget.value) } })}
    />
  );
  return (
    <>
      <form class="settings-bar" onSubmit={add}>
        <label class="sr" for="tenant-name">{t.tenantName}</label>
        <input id="tenant-name" class="input" value={name} maxLength={64} placeholder={t.tenantNameHint} onInput={(e) => setName(e.currentTarget.value)} />
        <button type="submit" class="btn" disabled={name.trim() === ''}><Icon name="plus" size={15} />{t.addTenant}</button>
      </form>
      <Table
        list={list}
        empty={t.noTenants}
        head={[t.tenantName, t.sessions_live, t.slots, t.state, '']}
        row={(r) => (
          <tr key={r.name}>
            <td class="cut">{r.name}</td>
            <td>{limit(r, 'sessions_live')}</td>
            <td>{limit(r, 'slots')}</td>
            <td>{r.disabled ? t.disabled : t.active}</td>
            <td class="end">{r.name !== 'default' && <button type="button" class="btn small" onClick={() => void change(r, { disabled: !r.disabled })}>{r.disabled ? t.enable : t.disable}</button>}</td>
          </tr>
        )}
      />
    </>
  );
}

function Audit() {
  const [result, setResult] = useState('');
  const list = useList<Act>(`/audit?limit=200${result ? `&result=${result}` : ''}`, 'audit');
  return (
    <>
      <div class="settings-bar">
        <p class="dim">{t.auditLead}</p>
        <select class="input" aria-label={t.result} value={result} onChange={(e) => setResult(e.currentTarget.value)}>
          {['', 'ok', 'forbidden', 'unauthorized', 'rate_limited'].map((r) => <option key={r} value={r}>{t.results[r as keyof typeof t.results]}</option>)}
        </select>
      </div>
      <Table
        list={list}
        empty={t.noAudit}
        head={[t.time, t.actor, t.address, t.action, t.target, t.result]}
        row={(r) => (
          <tr key={r.seq}>
            <td class="num">{full(r.timestamp)}</td><td class="cut">{r.actor || '–'}</td><td class="cut">{r.address}</td><td class="cut"><code>{r.action}</code></td><td class="cut">{r.target}</td>
            <td data-result={r.result}>{t.results[r.result as keyof typeof t.results] ?? r.result}</td>
          </tr>
        )}
      />
    </>
  );
}

const TABS = { tokens: Tokens, users: Users, tenants: Tenants, audit: Audit } as const;
type Tab = keyof typeof TABS;

export function SettingsView() {
  const [me, setMe] = useState<Me | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [tab, setTab] = useState<Tab>('tokens');
  useEffect(() => {
    document.title = `${t.title} · ${texts.product}`;
    getJson<Me>('/me').then(setMe, (e) => setError(e instanceof ApiError ? e.message : String(e)));
  }, []);
  if (error) return <Blank icon="alert" title={error} />;
  if (!me) return <div class="sheet"><Skeleton width={140} height={24} /><Skeleton width="40%" /><Skeleton width="100%" height={120} /></div>;
  const tabs = (Object.keys(TABS) as Tab[]).filter((name) => name !== 'tenants' || me.installation);
  const Body = TABS[tab];
  return (
    <div class="page scroll full">
      <div class="sheet settings">
        <header class="sheet-head">
          <div><h1>{t.title}</h1><p class="dim">{t.you(me.name, t.roles[me.role], me.tenant)}</p></div>
          <a class="btn" href="/reference.html" target="_blank" rel="noopener"><Icon name="link" />{texts.palette.reference}</a>
        </header>
        {me.role === 'admin' ? (
          <>
            <div class="settings-tabs" role="tablist" aria-label={t.title}>
              {tabs.map((name) => <button key={name} type="button" role="tab" id={`tab-${name}`} aria-selected={tab === name} aria-controls="settings-panel" onClick={() => setTab(name)}>{t.tabs[name]}</button>)}
            </div>
            <section id="settings-panel" role="tabpanel" aria-labelledby={`tab-${tab}`}><Body key={tab} /></section>
          </>
        ) : <Blank icon="info" title={t.notAdmin} text={t.notAdminHint} />}
      </div>
    </div>
  );
}
