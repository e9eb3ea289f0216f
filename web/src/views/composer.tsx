/** The field one speaks to the agent with. What was typed stays with its session until it is sent. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { SessionStream } from '../state/stream';
import { toastError } from '../state/toasts';
import { texts } from '../texts';
import { isLive, isWorking, type Session } from '../types';
import { Icon } from '../ui/icons';
import { answers } from './waiting';

const drafts = new Map<string, string>();

export function Composer({ stream, session, onSent }: { stream: SessionStream; session: Session | undefined; onSent: () => void }) {
  const t = texts.chat;
  const [text, setText] = useState(drafts.get(stream.id) ?? '');
  const area = useRef<HTMLTextAreaElement>(null);
  const change = (v: string) => {
    setText(v);
    if (v) drafts.set(stream.id, v);
    else drafts.delete(stream.id);
  };
  useEffect(() => {
    // Where field-sizing is unknown the height follows the text by hand.
    const a = area.current!;
    if (CSS.supports('field-sizing', 'content')) return;
    a.style.height = 'auto';
    a.style.height = `${Math.min(200, a.scrollHeight)}px`;
  }, [text]);
  const send = () => {
    const said = text.trim();
    if (said === '') return;
    change('');
    onSent();
    stream.send(said).catch(toastError);
  };
  const status = session?.status;
  const narrow = matchMedia('(max-width: 820px)').matches;
  const placeholder = answers(session) ? texts.waiting.placeholder : !status || (isWorking(status) && !narrow) ? t.placeholder.working : isLive(status) || narrow ? t.placeholder.ready : t.placeholder.ended;
  return (
    <>
      <div class="composer-box">
        <textarea
          ref={area} rows={1} value={text} placeholder={placeholder} aria-label={t.label} maxLength={200_000}
          onInput={(e) => change(e.currentTarget.value)}
          onKeyDown={(e) => {
            if (e.key !== 'Enter' || e.shiftKey || e.isComposing) return;
            e.preventDefault();
            send();
          }}
        />
        <button type="button" class="send" aria-label={t.send} title={t.send} disabled={text.trim() === ''} onClick={send}><Icon name="up" size={17} /></button>
      </div>
      <div class="composer-hint"><span>{t.hint}</span></div>
    </>
  );
}
