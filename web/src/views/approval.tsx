/** What the agent asks a person for: the card with the exact request, and the answer. */
import { useState } from 'preact/hooks';
import { request } from '../lib/api';
import { clock, full } from '../lib/format';
import type { ApprovalItem } from '../model/transcript';
import { toastError } from '../state/toasts';
import { texts } from '../texts';
import { Spinner } from '../ui/controls';
import { Icon } from '../ui/icons';

type Decision = { decision: 'allow' | 'deny'; scope: 'once' | 'session' };

/** Values of one line stand as a list; what is longer keeps its shape. */
function Bound({ bound }: { bound: Record<string, unknown> }) {
  const rows = Object.entries(bound);
  const flat = rows.length > 0 && rows.every(([, v]) => v === null || typeof v !== 'object') && rows.every(([, v]) => String(v).length < 120);
  if (!flat) return <pre class="approval-bound" tabIndex={0}>{JSON.stringify(bound, null, 2)}</pre>;
  return <dl class="approval-list">{rows.map(([k, v]) => <><dt>{texts.approval.why[k] ?? k}</dt><dd class="mono">{String(v)}</dd></>)}</dl>;
}

export function ApprovalCard({ item }: { item: ApprovalItem }) {
  const t = texts.approval;
  const [sent, setSent] = useState<Decision | null>(null);
  const [note, setNote] = useState('');
  // Shown as decided at once; when the server says no the card is back with its note.
  const decide = (d: Decision) => {
    setSent(d);
    request(`/sessions/${encodeURIComponent(item.sessionId)}/approvals/${encodeURIComponent(item.approvalId)}`, { method: 'POST', json: { ...d, ...(note.trim() ? { note: note.trim() } : {}) } })
      .catch((e: unknown) => {
        setSent(null);
        toastError(e);
      });
  };
  if (item.status !== 'pending') {
    return (
      <div class="note-line" data-decision={item.status} title={full(item.decidedAt ?? item.at)}>
        <span class="decided"><Icon name={item.status === 'allowed' ? 'good' : 'alert'} size={13} />{t.status[item.status] ?? item.status}: {item.subject}{item.by ? ` · ${item.by}` : ''}{item.note ? ` · “${item.note}”` : ''} · {clock(item.decidedAt ?? item.at)}</span>
      </div>
    );
  }
  if (sent) {
    return <div class="note-line" role="status"><Spinner /><span class="decided">{t.status[sent.decision === 'allow' ? 'allowed' : 'denied']}: {item.subject}</span></div>;
  }
  return (
    <section class="approval" data-kind={item.approvalKind} aria-label={t.label}>
      <div class="approval-head"><Icon name={item.approvalKind === 'network' ? 'globe' : 'shield'} size={16} /><b>{item.approvalKind === 'network' ? t.network : t.tool}</b><span class="dim">{t.until(clock(item.expiresAt))}</span></div>
      <div class="mono approval-what" title={item.subject}>{item.subject}</div>
      <Bound bound={item.bound} />
      <input class="input" aria-label={t.note} placeholder={t.note} value={note} maxLength={2000} onInput={(e) => setNote(e.currentTarget.value)} />
      <div class="approval-row">
        <button type="button" class="btn primary" onClick={() => decide({ decision: 'allow', scope: 'once' })}>{t.once}</button>
        <button type="button" class="btn" title={t.sessionHint} onClick={() => decide({ decision: 'allow', scope: 'session' })}>{t.session}</button>
        <button type="button" class="btn danger" onClick={() => decide({ decision: 'deny', scope: 'once' })}>{t.deny}</button>
      </div>
    </section>
  );
}
