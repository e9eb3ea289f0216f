/** Cards of tools that people take part in: questions, other sessions, reports, programs, MCP servers. */
import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { follow, paths, route } from '../lib/router';
import { postJson } from '../lib/api';
import { toastError } from '../state/toasts';
import type { ToolItem } from '../model/transcript';
import type { Block } from '../types';
import { texts } from '../texts';
import { Code } from '../ui/code';
import { Icon } from '../ui/icons';

const str = (v: unknown): string => (typeof v === 'string' ? v : '');
const list = (v: unknown): string[] => (Array.isArray(v) ? v.filter((x): x is string => typeof x === 'string') : []);
const textOf = (blocks: Block[]): string => blocks.flatMap((b) => (b.type === 'text' ? [b.text] : [])).join('\n');
const ID = /\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/;

/** The question; while it is open, its choices and a field for the answer. */
export function Question({ item }: { item: ToolItem }) {
  const [answer, setAnswer] = useState('');
  const [sent, setSent] = useState(false);
  const open = item.state === 'running' && !sent;
  const said = textOf(item.output);
  const say = (text: string) => {
    const r = route.value;
    if (!text.trim() || r.name !== 'session') return;
    setSent(true);
    postJson(`/sessions/${encodeURIComponent(r.id)}/messages`, { content: text }, { headers: { 'Idempotency-Key': `answer-${item.callId}` } }).catch((e: unknown) => {
      setSent(false);
      toastError(e);
    });
  };
  return (
    <div class="ask">
      <p class="ask-text">{str(item.input.question)}</p>
      {open && (
        <>
          {list(item.input.choices).length > 0 && (
            <div class="ask-choices">
              {list(item.input.choices).map((c) => <button key={c} type="button" class="btn small" onClick={() => say(c)}>{c}</button>)}
            </div>
          )}
          <form class="ask-form" onSubmit={(e) => { e.preventDefault(); say(answer); }}>
            <input class="field" value={answer} placeholder={texts.tools.answer} aria-label={texts.tools.answer} onInput={(e) => setAnswer(e.currentTarget.value)} />
            <button type="submit" class="btn small primary" disabled={!answer.trim()}>{texts.tools.sendAnswer}</button>
          </form>
        </>
      )}
      {said && <p class="ask-said">{said}</p>}
      {item.error && <div class="tool-error">{item.error}</div>}
    </div>
  );
}

/** What was handed to another session, what came of it, and the way there. */
export function Delegated({ item }: { item: ToolItem }) {
  const said = textOf(item.output) || item.error || '';
  const id = ID.exec(str(item.input.session_id))?.[0] ?? ID.exec(said)?.[0];
  return (
    <>
      {str(item.input.message) && <div class="tool-text" tabIndex={0}>{str(item.input.message)}</div>}
      {said && <div class={item.error ? 'tool-error' : 'tool-text'} tabIndex={0}>{said}</div>}
      {id && <div class="tool-link"><a href={paths.session(id)} onClick={follow}><Icon name="message" size={14} /> {texts.tools.openSession}</a></div>}
    </>
  );
}

/** The report: the summary, the result as JSON, links to the documents. */
export function Report({ item }: { item: ToolItem }) {
  const output = item.input.output;
  return (
    <div class="report">
      <p>{str(item.input.summary)}</p>
      {output !== undefined && output !== null && <div class="tool-text" tabIndex={0}>{typeof output === 'string' ? output : JSON.stringify(output, null, 2)}</div>}
      {list(item.input.documents).map((id) => <a key={id} href={paths.document(id)} onClick={follow}><Icon name="files" size={14} /> {texts.tools.openDocument}</a>)}
      {item.error && <div class="tool-error">{item.error}</div>}
    </div>
  );
}

/** A program and what it said. */
export function Program({ item }: { item: ToolItem }): ComponentChildren {
  const said = item.state === 'running' ? item.printed : textOf(item.output);
  return (
    <div class="term" tabIndex={0} role="group" aria-label={texts.tools.output}>
      <pre class="cmd"><Code text={str(item.input.code)} language={str(item.input.language)} /></pre>
      {said && <pre class="out">{said}</pre>}
      {item.error && <pre class="err">{item.error}</pre>}
    </div>
  );
}
