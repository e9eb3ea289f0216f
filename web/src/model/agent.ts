/** The form of an agent: what is in its fields, what of it is wrong, what of it is sent. Pure. */
import type { Agent, AgentBody, AgentVersion, Network } from '../state/agents';
import { texts } from '../texts';

export interface Draft {
  name: string; description: string; prompt: string; model: string; provider: string; every: boolean; tools: string[]; approval: Record<string, unknown>;
  mode: string; allow: string; deny: string; network: Network | null; kind: string; slot: Record<string, unknown> | null; budget: Record<string, string>;
  servers: string; skills: string; schema: string;
}
export type Wrong = Partial<Record<'name' | 'description' | 'model' | 'prompt' | 'tools' | 'allow' | 'deny' | 'network' | 'kind' | 'budget' | 'provider' | Json, string>>;
/** Fields that hold JSON as text. */
export type Json = 'servers' | 'skills' | 'schema';

/** Where the form shows what the server says of a field of the request. */
export const FIELD_OF: Record<string, keyof Wrong> = {
  name: 'name', description: 'description', model: 'model', provider: 'provider', system_prompt: 'prompt', tools: 'tools', approval: 'tools', network: 'network', slot: 'kind', budget: 'budget', mcp_servers: 'servers', skills: 'skills', output_schema: 'schema',
};

export const NAME = /^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$/;
const HOST = /^(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d{1,5})?$/;
const pretty = (v: unknown): string => (v === null || v === undefined || (Array.isArray(v) && v.length === 0) ? '' : JSON.stringify(v, null, 2));
const parsed = (s: string): unknown => (s.trim() === '' ? null : JSON.parse(s));

/** What is wrong with JSON in a field before the server sees it. */
function jsonWrong(text: string, list: boolean): string | undefined {
  const t = texts.agents;
  try {
    const v = parsed(text);
    if (v !== null && (list ? !Array.isArray(v) : typeof v !== 'object' || Array.isArray(v))) return list ? t.jsonList : t.jsonObject;
    return undefined;
  } catch (e) {
    return t.jsonBad(e instanceof Error ? e.message : '');
  }
}
const lines = (s: string): string[] => s.split(/[\n,]/).map((l) => l.trim()).filter(Boolean);

export function draftOf(a: Agent | AgentVersion | null): Draft {
  return {
    name: a?.name ?? '', description: a?.description ?? '', prompt: a?.system_prompt ?? '', model: a?.model ?? '', provider: a?.provider ?? '', every: (a?.tools ?? null) === null, tools: a?.tools ?? [], approval: a?.approval ?? {},
    mode: a?.network?.mode ?? 'none', allow: (a?.network?.allow ?? []).join('\n'), deny: (a?.network?.deny ?? []).join('\n'), network: a?.network ?? null, kind: typeof a?.slot?.kind === 'string' ? a.slot.kind : '', slot: a?.slot ?? null,
    budget: Object.fromEntries(Object.entries(a?.budget ?? {}).map(([k, v]) => [k, String(v)])),
    servers: pretty(a?.mcp_servers), skills: pretty(a?.skills), schema: pretty(a?.output_schema),
  };
}

export function wrongIn(d: Draft): Wrong {
  const t = texts.agents;
  const w: Wrong = {};
  if (!NAME.test(d.name) || d.name.length > 64) w.name = t.nameRule;
  const bad = (list: string) => lines(list).find((h) => !HOST.test(h));
  if (d.mode === 'allow') {
    const host = bad(d.allow);
    if (host) w.allow = t.hostWrong(host);
    else if (lines(d.allow).length === 0) w.allow = t.hostsMissing;
  }
  const never = d.mode === 'none' ? undefined : bad(d.deny);
  if (never) w.deny = t.hostWrong(never);
  if (Object.values(d.budget).some((v) => v.trim() !== '' && !(Number(v) > 0))) w.budget = texts.budget.wrong;
  for (const k of ['servers', 'skills', 'schema'] as const) {
    const why = jsonWrong(d[k], k !== 'schema');
    if (why) w[k] = why;
  }
  if (d.provider && !d.model.trim()) w.provider = `${t.provider}: ${t.model}?`;
  return w;
}

function networkOf(d: Draft): Network | null {
  if (d.mode === 'none' && d.network === null) return null;
  const { allow: _allow, deny: _deny, ...kept } = d.network ?? {};
  const deny = lines(d.deny);
  return { ...kept, mode: d.mode, ...(d.mode === 'allow' ? { allow: lines(d.allow) } : {}), ...(d.mode !== 'none' && deny.length > 0 ? { deny } : {}) };
}

/** Every field of the form, as the API wants it. What the form does not show is not sent and stays. */
export function bodyOf(d: Draft): AgentBody {
  const budget = Object.fromEntries(Object.entries(d.budget).filter(([, v]) => v.trim() !== '').map(([k, v]) => [k, Number(v)]));
  const slot = d.kind ? { ...d.slot, kind: d.kind } : d.slot && Object.keys(d.slot).length > 1 ? Object.fromEntries(Object.entries(d.slot).filter(([k]) => k !== 'kind')) : null;
  return {
    description: d.description.trim() || null, system_prompt: d.prompt || null, model: d.model.trim() || null, provider: d.provider || null, tools: d.every ? null : d.tools, approval: d.approval, network: networkOf(d),
    slot, budget: Object.keys(budget).length > 0 ? budget : null, mcp_servers: (parsed(d.servers) ?? []) as unknown[], skills: (parsed(d.skills) ?? []) as unknown[], output_schema: parsed(d.schema),
  };
}

/** Only of a draft whose JSON is some (wrongIn). Only what differs from the agent as it is: a change by somebody else to another field is not undone. */
export function changesOf(d: Draft, a: Agent): AgentBody {
  const before = bodyOf(draftOf(a)) as Record<string, unknown>;
  return Object.fromEntries(Object.entries(bodyOf(d)).filter(([k, v]) => JSON.stringify(v) !== JSON.stringify(before[k])));
}
