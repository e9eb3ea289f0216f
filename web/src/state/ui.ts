/** What is open and how the list is filtered: state of the page itself. */
import { computed, signal } from '@preact/signals';
import { isLive, type Session, type SessionStatus } from '../types';
import { sorted } from './feed';

export const drawerOpen = signal(false);
export const newSessionOpen = signal(false);
export const paletteOpen = signal(false);
export const shortcutsOpen = signal(false);
export const connectOpen = signal(false);
/** The agent that the form of a new session begins with. */
export const newSessionAgent = signal<string | null>(null);
/** The session whose budget is being changed. */
export const budgetOpen = signal<string | null>(null);

export type Group = 'all' | 'live' | 'ended' | 'failed';
export const GROUPS: readonly Group[] = ['all', 'live', 'ended', 'failed'];
export const search = signal('');
export const group = signal<Group>('all');
export const SORTS = ['modified', 'created', 'name', 'cost'] as const;
export type Sort = (typeof SORTS)[number];
export const sortBy = signal<Sort>('modified');
/** Narrower than the groups: one status, one agent; '' is any. */
export const onlyStatus = signal<SessionStatus | ''>('');
export const onlyAgent = signal('');
export const agentNames = computed(() => [...new Set(sorted.value.flatMap((s) => (s.agent_name ? [s.agent_name] : [])))].sort());
export const clearFilters = (): void => {
  search.value = '';
  group.value = 'all';
  onlyStatus.value = '';
  onlyAgent.value = '';
};

const inGroup = (s: Session, g: Group): boolean =>
  g === 'all' || (g === 'live' ? isLive(s.status) : g === 'failed' ? s.status === 'failed' : s.status === 'finished' || s.status === 'stopped');

const matches = (s: Session, q: string): boolean =>
  q === '' || [s.session_name, s.session_id, s.agent_name, s.project_dir, s.model].some((v) => v?.toLowerCase().includes(q));

export const groupCounts = computed(() => {
  const n: Record<Group, number> = { all: 0, live: 0, ended: 0, failed: 0 };
  for (const s of sorted.value) for (const g of GROUPS) if (inGroup(s, g)) n[g] += 1;
  return n;
});

export const visible = computed(() => {
  const q = search.value.trim().toLowerCase();
  const list = sorted.value.filter((s) => inGroup(s, group.value) && (onlyStatus.value === '' || s.status === onlyStatus.value) && (onlyAgent.value === '' || s.agent_name === onlyAgent.value) && matches(s, q));
  switch (sortBy.value) {
    case 'created': return list.sort((a, b) => (a.created_at < b.created_at ? 1 : -1));
    case 'name': return list.sort((a, b) => (a.session_name || '\uffff').localeCompare(b.session_name || '\uffff', 'en', { numeric: true }));
    case 'cost': return list.sort((a, b) => (b.usage?.cost_usd ?? 0) - (a.usage?.cost_usd ?? 0));
    default: return list;
  }
});
