/** Usage: cost and tokens by day as a chart, by agent, session and model as tables. */
import { useEffect, useState } from 'preact/hooks';
import { getJson } from '../lib/api';
import { count, money, shortId } from '../lib/format';
import { follow, paths } from '../lib/router';
import { sessions } from '../state/feed';
import { toastError } from '../state/toasts';
import { texts } from '../texts';
import { Blank, Skeleton } from '../ui/controls';
import { Icon } from '../ui/icons';

interface Row { day?: string; agent?: string | null; session?: string; model?: string; calls: number; input_tokens: number; output_tokens: number; cache_read_tokens: number; cache_write_tokens?: number; cost_usd: number }
interface Answer { group_by: string; from: string; to: string; usage: Row[]; total: Row }
type Group = 'day' | 'agent' | 'session' | 'model';
type Measure = 'cost' | 'tokens';

const DAY = 86_400_000;
const RANGES = [7, 30, 90];
const iso = (t: number): string => new Date(t).toISOString().slice(0, 10);
const tokens = (r: Row): number => r.input_tokens + r.output_tokens + r.cache_read_tokens + (r.cache_write_tokens ?? 0);
const value = (r: Row, m: Measure): number => (m === 'cost' ? r.cost_usd : tokens(r));
const say = (n: number, m: Measure): string => (m === 'cost' ? money(n) : count(n));
const dayName = (d: string): string => new Date(`${d}T00:00:00Z`).toLocaleDateString('en', { day: 'numeric', month: 'short', timeZone: 'UTC' });

/** A round number not below n: 1, 2, 2.5 or 5 times a power of ten. */
function ceiling(n: number): number {
  if (n <= 0) return 1;
  const p = 10 ** Math.floor(Math.log10(n));
  return ([1, 2, 2.5, 5, 10].find((s) => s * p >= n) ?? 10) * p;
}

const H = 200;
const LEFT = 52;
const BOTTOM = 22;

/** Bars of days; days without use are there, empty. */
function Chart({ rows, from, to, measure, width }: { rows: Row[]; from: string; to: string; measure: Measure; width: number }) {
  const [at, setAt] = useState<number | null>(null);
  const of = new Map(rows.map((r) => [r.day, r]));
  const start = Date.parse(`${from}T00:00:00Z`);
  const n = Math.round((Date.parse(`${to}T00:00:00Z`) - start) / DAY) + 1;
  const days = Array.from({ length: n }, (_, i) => ({ day: iso(start + i * DAY), v: of.has(iso(start + i * DAY)) ? value(of.get(iso(start + i * DAY))!, measure) : 0 }));
  const top = ceiling(Math.max(...days.map((d) => d.v)));
  const inner = width - LEFT - 8;
  const step = inner / n;
  const y = (v: number) => 8 + (H - BOTTOM - 8) * (1 - v / top);
  const most = days.reduce((a, b) => (b.v > a.v ? b : a));
  const every = Math.ceil(n / Math.max(2, Math.floor(inner / 74)));
  const label = `${texts.usage.chart(measure === 'cost' ? texts.usage.cost : texts.usage.tokens, from, to)}; ${texts.usage.most(most.day, say(most.v, measure))}`;
  const shown = at === null ? null : days[at];
  return (
    <figure class="chart">
      <svg
        width={width} height={H} viewBox={`0 0 ${width} ${H}`} role="img" aria-label={label} onPointerLeave={() => setAt(null)}
        onPointerMove={(e) => {
          const x = e.clientX - e.currentTarget.getBoundingClientRect().left - LEFT;
          setAt(x < 0 || x >= inner ? null : Math.min(n - 1, Math.floor(x / step)));
        }}
      >
        {[0, 0.5, 1].map((p) => (
          <g key={p}><line class="rule" x1={LEFT} x2={width - 8} y1={y(p * top)} y2={y(p * top)} /><text class="tick" x={LEFT - 8} y={y(p * top) + 4} text-anchor="end">{say(p * top, measure)}</text></g>
        ))}
        {days.map((d, i) => (
          <g key={d.day}>
            {d.v > 0 && <rect class={`day ${at === i ? 'on' : ''}`} x={LEFT + i * step + Math.min(3, step * 0.14)} width={Math.max(1.5, step - 2 * Math.min(3, step * 0.14))} y={y(d.v)} height={Math.max(1, y(0) - y(d.v))} rx={Math.min(3, step / 4)} />}
            {i % every === 0 && <text class="tick" x={LEFT + (i + 0.5) * step} y={H - 5} text-anchor="middle">{dayName(d.day)}</text>}
          </g>
        ))}
      </svg>
      {shown && <figcaption class="chart-tip" style={{ left: `${Math.min(width - 130, Math.max(LEFT, LEFT + (at! + 0.5) * step - 60))}px` }}><b>{say(shown.v, measure)}</b><span>{dayName(shown.day)}</span></figcaption>}
    </figure>
  );
}

function name(r: Row, g: Group) {
  if (g === 'day') return dayName(r.day ?? '');
  if (g === 'agent') return r.agent ? <a href={paths.agent(r.agent)} onClick={follow}>{r.agent}</a> : <span class="dim">{texts.usage.noAgent}</span>;
  if (g === 'model') return <span class="mono">{r.model}</span>;
  const s = sessions.value.get(r.session ?? '');
  return s ? <a href={paths.session(s.session_id)} onClick={follow}>{s.session_name || texts.sessions.unnamed}</a> : <span class="dim">{texts.usage.deleted} {shortId(r.session ?? '')}</span>;
}

function csv(rows: Row[], g: Group): string {
  // A cell that begins like a formula stays text in a spreadsheet.
  const cell = (v: unknown) => `"${String(v ?? '').replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;
  const head = [g, 'calls', 'input_tokens', 'output_tokens', 'cache_read_tokens', 'cost_usd'];
  return [head.join(','), ...rows.map((r) => [cell(r[g]), r.calls, r.input_tokens, r.output_tokens, r.cache_read_tokens, r.cost_usd].join(','))].join('\r\n') + '\r\n';
}

function save(text: string, filename: string): void {
  const a = document.createElement('a');
  a.href = URL.createObjectURL(new Blob([text], { type: 'text/csv' }));
  a.download = filename;
  a.click();
  setTimeout(() => URL.revokeObjectURL(a.href), 5000);
}

function Table({ rows, g, measure }: { rows: Row[]; g: Group; measure: Measure }) {
  const t = texts.usage;
  const most = Math.max(...rows.map((r) => value(r, measure)), 1e-9);
  return (
    <table class="grid usage-table">
      <thead><tr><th scope="col">{t.groups[g]}</th><th scope="col" class="end opt">{t.calls}</th><th scope="col" class="end opt">{t.input}</th><th scope="col" class="end opt">{t.output}</th><th scope="col" class="end opt">{t.cached}</th><th scope="col" class="end">{t.cost}</th></tr></thead>
      <tbody>
        {rows.map((r) => (
          <tr key={String(r[g])}>
            <td class="cut"><span class="share" style={{ width: `${(100 * value(r, measure)) / most}%` }} aria-hidden="true" />{name(r, g)}</td>
            <td class="end num opt">{r.calls}</td><td class="end num opt">{count(r.input_tokens)}</td><td class="end num opt">{count(r.output_tokens)}</td><td class="end num opt">{count(r.cache_read_tokens)}</td><td class="end num">{money(r.cost_usd)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function useUsage(g: Group, range: number): Answer | null {
  const [a, setA] = useState<Answer | null>(null);
  useEffect(() => {
    const stop = new AbortController();
    const today = Date.now();
    setA(null);
    getJson<Answer>(`/usage?group_by=${g}&from=${iso(today - (range - 1) * DAY)}&to=${iso(today)}&limit=1000`, { signal: stop.signal }).then(setA, (e: unknown) => !stop.signal.aborted && toastError(e));
    return () => stop.abort();
  }, [g, range]);
  return a;
}

export function UsageView() {
  const t = texts.usage;
  const [range, setRange] = useState(30);
  const [measure, setMeasure] = useState<Measure>('cost');
  const [g, setG] = useState<Group>('agent');
  const [width, setWidth] = useState(0);
  const box = (el: HTMLElement | null): void => {
    if (el && el.clientWidth !== width) setWidth(el.clientWidth);
  };
  useEffect(() => {
    const look = () => setWidth(document.querySelector('.chart-box')?.clientWidth ?? 0);
    addEventListener('resize', look);
    return () => removeEventListener('resize', look);
  }, []);
  const byDay = useUsage('day', range);
  const by = useUsage(g, range);
  const total = byDay?.total;
  return (
    <div class="page scroll full">
      <div class="sheet">
        <header class="sheet-head">
          <div><h1>{t.title}</h1><p class="dim">{t.lead}</p></div>
          <div class="segments" role="group" aria-label={t.range}>{RANGES.map((n) => <button key={n} type="button" aria-pressed={range === n} onClick={() => setRange(n)}>{t.days(n)}</button>)}</div>
        </header>
        <dl class="figures">
          {[[t.cost, total && money(total.cost_usd), total && `${money(total.cost_usd / range)} ${t.average}`], [t.tokens, total && count(tokens(total)), total && `${count(total.input_tokens)} ${t.input.toLowerCase()} · ${count(total.output_tokens)} ${t.output.toLowerCase()}`], [t.calls, total && count(total.calls), total && `${count(total.calls / range)} ${t.average}`]].map(([k, v, more]) => (
            <div key={k}><dt>{k}</dt><dd class="num">{v ?? <Skeleton width={80} height={24} />}</dd><dd class="dim">{more ?? ' '}</dd></div>
          ))}
        </dl>
        {byDay && byDay.usage.length === 0 ? <Blank icon="chart" title={t.none} text={t.noneHint} /> : (
          <>
            <section class="panel chart-panel" aria-label={t.groups.day}>
              <div class="segments" role="group" aria-label={t.by}>{(['cost', 'tokens'] as const).map((m) => <button key={m} type="button" aria-pressed={measure === m} onClick={() => setMeasure(m)}>{t[m]}</button>)}</div>
              <div class="chart-box" ref={box}>{byDay && width > 0 ? <Chart rows={byDay.usage} from={byDay.from} to={byDay.to} measure={measure} width={width} /> : <Skeleton width="100%" height={H} />}</div>
            </section>
            <section class="usage-by" aria-label={t.table}>
              <div class="usage-tools">
                <div class="segments" role="group" aria-label={t.by}>{(['agent', 'session', 'model', 'day'] as const).map((k) => <button key={k} type="button" aria-pressed={g === k} onClick={() => setG(k)}>{t.groups[k]}</button>)}</div>
                <button type="button" class="btn small" disabled={!by || by.group_by !== g} onClick={() => by && save(csv(by.usage, g), `usage-by-${g}-${by.from}-${by.to}.csv`)}><Icon name="download" size={14} />{t.export}</button>
              </div>
              {by && by.group_by === g ? <Table rows={by.usage} g={g} measure={measure} /> : <div class="sheet-wait"><Skeleton width="100%" height={36} /><Skeleton width="100%" height={36} /></div>}
            </section>
          </>
        )}
      </div>
    </div>
  );
}
