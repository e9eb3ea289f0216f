/** Why a session waits, said above the field that answers it. */
import type { SessionStream } from '../state/stream';
import { toastError } from '../state/toasts';
import { budgetOpen } from '../state/ui';
import { texts } from '../texts';
import type { Session } from '../types';
import { Icon, type IconName } from '../ui/icons';

const ICONS: Record<string, IconName> = { model: 'clock', budget: 'gauge', approval: 'shield', help: 'hand', answer: 'message' };

export const answers = (s: Session | undefined): boolean => s?.status === 'waiting' && (s.waiting?.for === 'answer' || s.waiting?.for === 'help');

export function WaitingFor({ session: s, stream }: { session: Session | undefined; stream: SessionStream }) {
  const t = texts.waiting;
  if (s?.status !== 'waiting') return null;
  const why = s.waiting?.for ?? (s.pending_approvals ? 'approval' : s.question ? 'answer' : '');
  const question = s.question?.question ?? s.waiting?.question ?? '';
  const text = why === 'model' ? t.model : why === 'budget' ? t.budget : why === 'approval' ? t.approval(s.pending_approvals ?? 1) : why === 'help' ? t.help : why === 'answer' ? t.answer : texts.statusHint.waiting;
  const showApproval = () => {
    const open = document.querySelector<HTMLElement>('.approval');
    open?.scrollIntoView({ block: 'center' });
    open?.querySelector<HTMLElement>('.btn.primary')?.focus();
  };
  return (
    <section class="waits" data-for={why} aria-label={t.label}>
      <Icon name={ICONS[why] ?? 'clock'} size={16} />
      <div>
        <p role="status">{text}</p>
        {question && <p class="waits-q">{question}</p>}
        {why !== 'approval' && (s.question?.choices?.length ?? 0) > 0 && (
          <div class="waits-choices" role="group" aria-label={t.choices}>
            {s.question!.choices!.map((c) => <button key={c} type="button" class="btn small" onClick={() => stream.send(c).catch(toastError)}>{c}</button>)}
          </div>
        )}
      </div>
      {why === 'budget' && <button type="button" class="btn small" onClick={() => (budgetOpen.value = s.session_id)}>{t.raise}</button>}
      {why === 'approval' && <button type="button" class="btn small" onClick={showApproval}>{t.showApproval}</button>}
    </section>
  );
}
