/** Agents: the table of blueprints; the form of one beside or instead of it. */
import { useEffect, useState } from 'preact/hooks';
import { ago, full } from '../lib/format';
import { follow, go, NEW_AGENT, paths } from '../lib/router';
import { agents, loadAgents, setAgentStatus, type Agent } from '../state/agents';
import { now } from '../state/clock';
import { toastError } from '../state/toasts';
import { texts } from '../texts';
import { Blank, Skeleton } from '../ui/controls';
import { Icon } from '../ui/icons';
import { AgentForm } from './agent-form';

export function Switch({ on, label, hint, onChange }: { on: boolean; label: string; hint?: string; onChange: (on: boolean) => void }) {
  return <button type="button" role="switch" class="switch" aria-checked={on} aria-label={label} title={hint ?? label} onClick={() => onChange(!on)}><i /></button>;
}

function Row({ a }: { a: Agent }) {
  const t = texts.agents;
  const mode = a.network?.mode ?? 'none';
  return (
    <tr data-agent={a.name} class={a.status === 'inactive' ? 'off' : ''}>
      <td>
        <a class="agent-name" href={paths.agent(a.name)} onClick={follow}><b class="cut">{a.name}</b>{a.description && <span class="cut dim">{a.description}</span>}</a>
      </td>
      <td class="opt cut">{a.model ?? <span class="dim">{t.modelHint}</span>}</td>
      <td class="opt num">{a.tools === null ? t.allTools : a.tools.length}</td>
      <td class="opt">{(t.networks[mode] ?? [mode])[0]}</td>
      <td class="opt"><time class="dim" dateTime={a.updated_at} title={full(a.updated_at)}>{ago(a.updated_at, now.value)}</time> <span class="dim num">{t.version(a.version)}</span></td>
      <td class="end"><Switch on={a.status === 'active'} label={`${a.name}: ${a.status === 'active' ? t.deactivate : t.activate}`} hint={t.inactiveHint} onChange={(on) => setAgentStatus(a, on ? 'active' : 'inactive').catch(toastError)} /></td>
    </tr>
  );
}

function Table() {
  const t = texts.agents;
  const [q, setQ] = useState('');
  const all = agents.value;
  const add = <a class="btn primary" href={paths.agent(NEW_AGENT)} onClick={follow}><Icon name="plus" size={15} />{t.new}</a>;
  const list = all?.filter((a) => `${a.name} ${a.description ?? ''} ${a.model ?? ''}`.toLowerCase().includes(q.trim().toLowerCase())) ?? [];
  return (
    <div class="sheet">
      <header class="sheet-head"><div><h1>{t.title}</h1><p class="dim">{t.lead}</p></div>{all && all.length > 0 && add}</header>
      {all === null && <div class="sheet-wait" aria-hidden="true"><Skeleton width="100%" height={40} /><Skeleton width="100%" height={40} /><Skeleton width="100%" height={40} /></div>}
      {all?.length === 0 && <Blank icon="bot" title={t.none} text={t.noneHint}>{add}</Blank>}
      {all && all.length > 0 && (
        <>
          <label class="search sheet-search"><span class="sr">{t.search}</span><Icon name="search" size={14} /><input class="input" type="search" placeholder={t.search} value={q} onInput={(e) => setQ(e.currentTarget.value)} /></label>
          {list.length === 0 ? <Blank icon="searchX" title={t.noMatch} /> : (
            <table class="grid agents-table">
              <thead><tr><th scope="col">{t.name}</th><th scope="col" class="opt">{t.model}</th><th scope="col" class="opt">{t.tools}</th><th scope="col" class="opt">{t.network}</th><th scope="col" class="opt">{t.changed}</th><th scope="col" class="end">{t.active}</th></tr></thead>
              <tbody>{list.map((a) => <Row key={a.name} a={a} />)}</tbody>
            </table>
          )}
        </>
      )}
    </div>
  );
}

export function AgentsView({ id }: { id: string | null }) {
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    setFailed(false);
    loadAgents().catch((e: unknown) => {
      setFailed(true);
      toastError(e);
    });
  }, [id === null]);
  if (failed && agents.value === null) return <Blank icon="unplug" title={texts.errors.boundary} text={texts.errors.unreachable} />;
  if (id === null) return <div class="page scroll full"><Table /></div>;
  const a = agents.value?.find((x) => x.name === id);
  if (id !== NEW_AGENT && agents.value === null) return <div class="sheet" aria-hidden="true"><Skeleton width={220} height={24} /><Skeleton width="100%" height={320} /></div>;
  if (id !== NEW_AGENT && !a) {
    return <Blank icon="searchX" title={texts.agents.missing} text={texts.agents.missingHint}><button type="button" class="btn" onClick={() => go(paths.agents)}>{texts.agents.title}</button></Blank>;
  }
  return <AgentForm key={id} agent={a ?? null} />;
}
