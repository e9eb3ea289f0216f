/** The budget of a session: a bar in its header, and a dialog in which limits are seen and raised. */
import { useState } from 'preact/hooks';
import { count, duration, money } from '../lib/format';
import { tightest, used, type Limit, type Used } from '../model/budget';
import { sessions, setBudget } from '../state/feed';
import { toast, toastError } from '../state/toasts';
import { budgetOpen } from '../state/ui';
import { texts } from '../texts';
import type { Session } from '../types';
import { Dialog } from '../ui/controls';

const say = (name: Limit, n: number): string => (name === 'cost_usd' ? money(n) : name === 'seconds' ? duration(n * 1000) : count(n));
const level = (part: number): string => (part >= 1 ? 'full' : part >= 0.8 ? 'high' : 'fine');

function Bar({ u }: { u: Used }) {
  return <span class="meter" data-level={level(u.part)} role="meter" aria-label={texts.budget.limits[u.name]} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(u.part * 100)}><i style={{ width: `${u.part * 100}%` }} /></span>;
}

/** The limit that comes first; nothing where none is set. */
export function BudgetBar({ s }: { s: Session }) {
  const t = texts.budget;
  const u = tightest(s);
  if (!u) return null;
  return (
    <button type="button" class="metric budget-bar" data-limit={u.name} title={`${t.title}: ${t.limits[u.name]}`} onClick={() => (budgetOpen.value = s.session_id)}>
      <Bar u={u} /><b>{t.of(say(u.name, u.used), say(u.name, u.limit!))}</b>
    </button>
  );
}

/** More than is used, in a round number. */
function raised(u: Used): number {
  const base = Math.max(u.limit ?? 0, u.used) * 1.5;
  return u.name === 'cost_usd' ? Math.max(0.01, Math.ceil(base * 100) / 100) : Math.max(1, Math.ceil(base));
}

function Form({ s }: { s: Session }) {
  const t = texts.budget;
  const [given, setGiven] = useState<Partial<Record<Limit, string>>>({});
  const all = used(s);
  const close = () => (budgetOpen.value = null);
  const wrong = (u: Used): string | null => {
    const v = given[u.name];
    if (v === undefined || v.trim() === '') return null;
    const n = Number(v);
    if (!Number.isFinite(n) || n <= 0) return t.wrong;
    return n <= u.used ? t.below : null;
  };
  const changes = Object.fromEntries(all.flatMap((u) => {
    const n = Number(given[u.name]);
    return given[u.name]?.trim() && Number.isFinite(n) && n > 0 && n !== u.limit ? [[u.name, n]] : [];
  }));
  const bad = all.some((u) => wrong(u) === t.wrong);
  const save = () => {
    if (bad || Object.keys(changes).length === 0) return;
    close();
    setBudget(s.session_id, changes).then(() => toast('good', t.saved), toastError);
  };
  return (
    <Dialog
      title={t.title} onClose={close} onSubmit={save}
      foot={<><button type="button" class="btn" onClick={close}>{texts.common.cancel}</button><button type="submit" class="btn primary" disabled={bad || Object.keys(changes).length === 0}>{texts.common.save}</button></>}
    >
      <p class="dim">{t.lead}</p>
      {all.map((u) => (
        <div class="budget-row" key={u.name}>
          <label class="label" for={`budget-${u.name}`}>{t.limits[u.name]}<span class="dim num">{say(u.name, u.used)} {t.used}</span></label>
          <div class="budget-set">
            <input
              class="input num" id={`budget-${u.name}`} inputMode="decimal" placeholder={u.limit === null ? t.noLimit : String(u.limit)} value={given[u.name] ?? ''} aria-invalid={wrong(u) === t.wrong}
              aria-describedby={wrong(u) ? `budget-${u.name}-wrong` : undefined} onInput={(e) => setGiven({ ...given, [u.name]: e.currentTarget.value })}
            />
            <button type="button" class="btn small" onClick={() => setGiven({ ...given, [u.name]: String(raised(u)) })} aria-label={`${t.limits[u.name]}: ${t.more}`}>{t.more}</button>
          </div>
          {u.limit !== null && <Bar u={u} />}
          {wrong(u) && <p class="hint warn" id={`budget-${u.name}-wrong`}>{wrong(u)}</p>}
        </div>
      ))}
    </Dialog>
  );
}

export function BudgetDialog() {
  const s = budgetOpen.value ? sessions.value.get(budgetOpen.value) : undefined;
  return s ? <Form key={s.session_id} s={s} /> : null;
}
