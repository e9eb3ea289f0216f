/** How a model that answered becomes the one this Berth uses: what to type on its machine. The key itself is never part of it. Pure. */

export type Provider = 'anthropic' | 'openai';
export interface Trial { provider: Provider; base_url: string; model: string }
export const HOME_OF: Record<Provider, string> = { anthropic: 'https://api.anthropic.com', openai: 'https://api.openai.com' };

/** Each is a command, or lines for the file it names. */
export interface Step { text: 'key' | 'file' | 'restart' | 'up'; code: string }

export const quoted = (s: string): string => (/^[\w./:@-]+$/.test(s) ? s : `'${s.replaceAll("'", `'\\''`)}'`);

export function steps(t: Trial, managed: boolean): Step[] {
  const url = t.base_url || HOME_OF[t.provider];
  const other = url !== HOME_OF[t.provider];
  if (!managed && t.provider === 'anthropic') {
    const more = [...(other ? [`ANTHROPIC_BASE_URL=${quoted(url)}`] : []), `BERTH_MODEL=${quoted(t.model)}`].join(' ');
    return [{ text: 'up', code: `./scripts/down\nread -rs ANTHROPIC_API_KEY && export ANTHROPIC_API_KEY\n${more} ./scripts/up` }];
  }
  const lines = [...(t.provider === 'openai' ? ['provider = openai'] : []), ...(other ? [`${t.provider}_url = ${url}`] : []), `model = ${t.model}`];
  return [
    { text: 'key', code: `install -m 600 /dev/stdin /etc/berth/credentials/${t.provider}-key` },
    { text: 'file', code: lines.join('\n') },
    { text: 'restart', code: "systemctl restart 'berth-workerd@*'" },
  ];
}
