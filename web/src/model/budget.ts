/** What of a session's budget is used. Pure. */
import type { Session } from '../types';

export const LIMITS = ['cost_usd', 'tokens', 'turns', 'seconds'] as const;
export type Limit = (typeof LIMITS)[number];
export interface Used { name: Limit; used: number; limit: number | null; part: number }

/** Each limit with what is used of it; a limit that is not set has part 0. */
export function used(s: Session): Used[] {
  const u = s.usage ?? {};
  const now: Record<Limit, number> = {
    cost_usd: u.cost_usd ?? 0, tokens: (u.input_tokens ?? 0) + (u.output_tokens ?? 0) + (u.cache_read_tokens ?? 0) + (u.cache_write_tokens ?? 0), turns: u.turns ?? 0, seconds: u.seconds ?? 0,
  };
  return LIMITS.map((name) => {
    const limit = s.budget?.[name];
    const set = typeof limit === 'number' && limit > 0;
    return { name, used: now[name], limit: set ? limit : null, part: set ? Math.min(1, now[name] / limit) : 0 };
  });
}

/** The limit that will be reached first. */
export function tightest(s: Session): Used | null {
  const set = used(s).filter((x) => x.limit !== null);
  return set.length === 0 ? null : set.reduce((a, b) => (b.part > a.part ? b : a));
}
