/** Agents (blueprints): the list, and changes that show at once and are taken back when refused. */
import { signal } from '@preact/signals';
import { ApiError, getJson, postJson, request } from '../lib/api';

export interface Network { mode?: string; allow?: string[]; deny?: string[]; [more: string]: unknown }
export interface Agent {
  name: string; description: string | null; system_prompt: string | null; status: 'active' | 'inactive'; model: string | null; provider: string | null; tools: string[] | null;
  approval: Record<string, unknown> | null; slot: Record<string, unknown> | null; network: Network | null; budget: Record<string, number> | null;
  mcp_servers?: unknown[] | null; skills?: unknown[] | null; output_schema?: unknown; version: number; created_at: string; updated_at: string;
}
export type AgentVersion = Omit<Agent, 'status' | 'updated_at'>;
/** What is sent: only what was given. */
export type AgentBody = Partial<Omit<Agent, 'version' | 'created_at' | 'updated_at'>>;

export const agents = signal<Agent[] | null>(null);

const put = (a: Agent): void => {
  agents.value = [...(agents.value ?? []).filter((x) => x.name !== a.name), a].sort((x, y) => x.name.localeCompare(y.name));
};

export async function loadAgents(): Promise<void> {
  const all: Agent[] = [];
  let cursor: string | null = null;
  do {
    const page: { agents: Agent[]; next_cursor: string | null } = await getJson(`/agents?limit=1000${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`);
    all.push(...page.agents);
    cursor = page.next_cursor;
  } while (cursor && all.length < 10_000);
  agents.value = all.sort((x, y) => x.name.localeCompare(y.name));
}

/** False when somebody has it already. */
export async function nameFree(name: string, signal: AbortSignal): Promise<boolean> {
  try {
    await getJson(`/agents/${encodeURIComponent(name)}`, { signal });
    return false;
  } catch (e) {
    if (e instanceof ApiError && e.status === 404) return true;
    throw e;
  }
}

export async function createAgent(body: AgentBody): Promise<Agent> {
  const a = await postJson<Agent>('/agents', body, { headers: { 'Idempotency-Key': crypto.randomUUID() } });
  put(a);
  return a;
}

export async function changeAgent(name: string, body: AgentBody): Promise<Agent> {
  const a = (await (await request(`/agents/${encodeURIComponent(name)}`, { method: 'PATCH', json: body })).json()) as Agent;
  put(a);
  return a;
}

export async function setAgentStatus(a: Agent, status: Agent['status']): Promise<void> {
  put({ ...a, status });
  try {
    put((await (await request(`/agents/${encodeURIComponent(a.name)}/status`, { method: 'PATCH', json: { status } })).json()) as Agent);
  } catch (e) {
    put(a);
    throw e;
  }
}

export async function deleteAgent(name: string): Promise<void> {
  const before = agents.value;
  agents.value = (before ?? []).filter((a) => a.name !== name);
  try {
    await request(`/agents/${encodeURIComponent(name)}`, { method: 'DELETE' });
  } catch (e) {
    agents.value = before;
    throw e;
  }
}

export async function versions(name: string): Promise<AgentVersion[]> {
  return (await getJson<{ versions: AgentVersion[] }>(`/agents/${encodeURIComponent(name)}/versions?limit=50`)).versions;
}
