/** What the agent asks a person for: the card with the exact request, and the answer. */
import { useState } from 'preact/hooks';
import { request } from '../lib/api';
import { clock, full } from '../lib/format';
import type { ApprovalItem } from '../model/transcript';
import { toastError } from '../state/toasts';
import { texts } from '../texts';
import { Icon } from '../ui/icons';

type Decision = { decision: 'allow' | 'deny'; scope: 'once' | 'session' };

export function ApprovalCard({ item }: { item: ApprovalItem }) {
  const t = texts.approval;
  const [busy, setBusy] = useState(false);
  const [note, setNote] = useState('');
  const decide = (d: Decision) => {
    setBusy(true);
    request(`/sessions/${encodeURIComponent(item.sessionId)}/approvals/${encodeURIComponent(item.approvalId)}`, { method: 'POST', json: { ...d, ...(note.trim() ? { note: note.trim() } : {}) } })
      .catch(toastError)
      .finally(() => setBusy(false));
  };
  if (item.status !== 'pending') {
    return (
      <div class="note-line" title={full(item.decidedAt ?? item.at)}>
        {t.status[item.status] ?? item.status}: {item.subject}{item.by ? ` · ${item.by}` : ''}{item.note ? ` · ${item.note}` : ''} · {clock(item.decidedAt ?? item.at)}
      </div>
    );
  }
  return (
    <section class="approval" aria-label={t.label} aria-busy={busy}>
      <div class="approval-head"><Icon name="alert" size={16} /><b>{item.approvalKind === 'network' ? t.network : t.tool}</b><span class="dim">{t.until(clock(item.expiresAt))}</span></div>
      <div class="mono cut" title={item.subject}>{item.subject}</div>
      <pre class="approval-bound" tabIndex={0}>{JSON.stringify(item.bound, null, 2)}</pre>
      <input class="input" aria-label={t.note} placeholder={t.note} value={note} maxLength={2000} onInput={(e) => setNote(e.currentTarget.value)} />
      <div class="approval-row">
        <button type="button" class="btn primary" disabled={busy} onClick={() => decide({ decision: 'allow', scope: 'once' })}>{t.once}</button>
        <button type="button" class="btn" disabled={busy} title={t.sessionHint} onClick={() => decide({ decision: 'allow', scope: 'session' })}>{t.session}</button>
        <button type="button" class="btn danger" disabled={busy} onClick={() => decide({ decision: 'deny', scope: 'once' })}>{t.deny}</button>
      </div>
    </section>
  );
}
