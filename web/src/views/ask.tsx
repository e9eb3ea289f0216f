/** A question to the documents: the answer, and the passages it rests on. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { follow, paths } from '../lib/router';
import { askDocuments, tagFilter } from '../state/documents';
import { texts } from '../texts';
import type { Answer, Source } from '../types';
import { Spinner } from '../ui/controls';
import { Icon } from '../ui/icons';

/** [2] in an answer leads to its source. */
function Cited({ text }: { text: string }) {
  return <>{text.split(/(\[\d{1,2}\])/).map((part, i) => (/^\[\d+\]$/.test(part) ? <a key={i} class="cite" href={`#source-${part.slice(1, -1)}`}>{part.slice(1, -1)}</a> : part))}</>;
}

function Sources({ sources, title }: { sources: Source[]; title: string }) {
  const t = texts.documents;
  if (sources.length === 0) return null;
  return (
    <>
      <h3>{title}</h3>
      <ol class="sources">
        {sources.map((s, i) => (
          <li key={i} id={`source-${i + 1}`} data-cited={s.cited}>
            <a class="doc-name" href={paths.document(s.id)} onClick={follow}><span class="cite">{i + 1}</span><span class="cut">{s.filename}</span>{s.page !== null && <span class="dim num">{t.page(s.page)}</span>}</a>
            <p>{s.passage}</p>
          </li>
        ))}
      </ol>
    </>
  );
}

export function Ask({ first }: { first: string }) {
  const t = texts.documents;
  const [question, setQuestion] = useState(first);
  const [busy, setBusy] = useState(false);
  const [answer, setAnswer] = useState<Answer | null>(null);
  /** What is known while the model speaks: the passages it was given, its words so far. */
  const [sources, setSources] = useState<Source[]>([]);
  const [said, setSaid] = useState('');
  const [wrong, setWrong] = useState<string | null>(null);
  const field = useRef<HTMLTextAreaElement>(null);
  const abort = useRef<AbortController | null>(null);
  useEffect(() => {
    field.current?.focus();
    return () => abort.current?.abort();
  }, []);
  const ask = async () => {
    if (busy || !question.trim()) return;
    abort.current = new AbortController();
    setBusy(true);
    setWrong(null);
    setAnswer(null);
    setSources([]);
    setSaid('');
    try {
      setAnswer(await askDocuments(question.trim(), abort.current.signal, { sources: setSources, said: setSaid }));
    } catch (e) {
      if (!abort.current.signal.aborted) setWrong(e instanceof Error ? e.message : String(e));
    }
    setBusy(false);
  };
  return (
    <div class="ask">
      <form
        onSubmit={(e) => {
          e.preventDefault();
          void ask();
        }}
      >
        <textarea
          ref={field} class="input" rows={2} maxLength={8000} aria-label={t.question} placeholder={t.questionPlaceholder} value={question} onInput={(e) => setQuestion(e.currentTarget.value)}
          onKeyDown={(e) => {
            if (e.key !== 'Enter' || e.shiftKey) return;
            e.preventDefault();
            void ask();
          }}
        />
        <button type="submit" class="btn primary" disabled={busy || !question.trim()}>{busy ? <Spinner /> : <Icon name="sparkles" size={15} />}{t.ask}</button>
      </form>
      <p class="dim scope">{tagFilter.value.length > 0 ? t.askTagged(tagFilter.value.join(', ')) : t.askAll}</p>
      {busy && said === '' && <p class="working" role="status"><Spinner />{sources.length > 0 ? t.answering(sources.length) : t.reading}</p>}
      {busy && said !== '' && <p class="answer speaking" aria-busy="true"><Cited text={said} /></p>}
      <div aria-live="polite">
        {wrong && <p class="wrong" role="alert">{wrong}</p>}
        {answer && <p class={`answer ${answer.found ? '' : 'none'}`}><Cited text={answer.answer} /></p>}
        {answer?.hook_error && <p class="dim">{t.hookFailed(answer.hook_error)}</p>}
      </div>
      {answer ? <Sources sources={answer.sources} title={answer.found ? t.sources : t.looked} /> : <Sources sources={sources} title={t.looked} />}
    </div>
  );
}
