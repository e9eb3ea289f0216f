/** One agent: who it is, what it is told, what it may do; its versions. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Prompt } from '../editor/monaco';
import { ApiError } from '../lib/api';
import { openPrompt } from '../lib/editor';
import { full } from '../lib/format';
import { follow, go, paths } from '../lib/router';
import { bodyOf, changesOf, draftOf, FIELD_OF, NAME, wrongIn, type Draft, type Json, type Wrong } from '../model/agent';
import { LIMITS } from '../model/budget';
import { changeAgent, createAgent, deleteAgent, nameFree, setAgentStatus, versions, type Agent, type AgentVersion } from '../state/agents';
import { toast, toastError } from '../state/toasts';
import { newSessionAgent, newSessionOpen } from '../state/ui';
import { texts } from '../texts';
import { Confirm, IconButton, Spinner } from '../ui/controls';
import { Icon } from '../ui/icons';

type Set = (part: Partial<Draft>) => void;

function Field(props: { id: string; label: string; hint?: string; wrong?: string; good?: string; children: preact.ComponentChildren }) {
  return (
    <div class="field">
      <label class="label" for={props.id}>{props.label}</label>
      {props.children}
      {props.wrong ? <p class="wrong" id={`${props.id}-wrong`} role="alert"><Icon name="alert" size={13} />{props.wrong}</p> : props.good ? <p class="hint good">{props.good}</p> : props.hint ? <p class="hint">{props.hint}</p> : null}
    </div>
  );
}

/** Monaco; while it comes, and where it cannot, a plain field that does the same. */
function PromptField({ text, epoch, wrong, onChange }: { text: string; epoch: number; wrong?: string; onChange: (text: string) => void }) {
  const t = texts.agents;
  const host = useRef<HTMLDivElement>(null);
  const prompt = useRef<Prompt | null>(null);
  const latest = useRef({ text, onChange });
  latest.current = { text, onChange };
  const [state, setState] = useState<'loading' | 'open' | 'failed'>('loading');
  useEffect(() => {
    let on = true;
    openPrompt(host.current!, latest.current.text, t.prompt, (v) => latest.current.onChange(v)).then((p) => {
      if (!on) return p.dispose();
      prompt.current = p;
      // What was typed into the plain field while the editor came.
      p.set(latest.current.text);
      return setState('open');
    }, (e: unknown) => {
      console.error(e);
      if (on) setState('failed');
    });
    return () => {
      on = false;
      prompt.current?.dispose();
    };
  }, []);
  // Only what did not come from the editor is put into it: what was typed meanwhile must not be undone.
  useEffect(() => prompt.current?.set(latest.current.text), [epoch]);
  return (
    <section class="agent-prompt" aria-label={t.prompt}>
      <h2 class="label">{t.prompt}<span class="dim">{state === 'loading' ? t.promptLoading : state === 'failed' ? t.promptFailed : t.promptHint}</span></h2>
      {wrong && <p class="wrong" role="alert"><Icon name="alert" size={13} />{wrong}</p>}
      <div class="prompt-box" data-editor={state}>
        <div class="prompt-host" ref={host} />
        {state !== 'open' && <textarea class="prompt-plain mono" aria-label={t.prompt} value={text} spellcheck={false} onInput={(e) => onChange(e.currentTarget.value)} />}
      </div>
    </section>
  );
}

function Tools({ d, set, wrong }: { d: Draft; set: Set; wrong?: string }) {
  const t = texts.agents;
  const names = [...new Set([...Object.keys(t.toolNames), ...d.tools, ...Object.keys(d.approval).filter((n) => n !== '*')])];
  const rule = (n: string) => (typeof d.approval[n] === 'string' ? (d.approval[n] as string) : d.approval[n] ? 'ruled' : '');
  const setRule = (n: string, v: string) => {
    const next = { ...d.approval };
    if (v === '') delete next[n];
    else next[n] = v;
    set({ approval: next });
  };
  return (
    <fieldset class="panel">
      <legend>{t.capabilities}</legend>
      <label class="check"><input type="checkbox" checked={d.every} onChange={(e) => set({ every: e.currentTarget.checked, tools: e.currentTarget.checked ? d.tools : d.tools.length ? d.tools : Object.keys(t.toolNames) })} /><span><b>{t.every}</b></span></label>
      <p class="tool-rule-head dim" aria-hidden="true">{t.approval}</p>
      <ul class="tool-list">
        {names.map((n) => {
          const [label, hint] = t.toolNames[n] ?? [n, ''];
          const on = d.every || d.tools.includes(n);
          return (
            <li key={n}>
              <label class="check" title={n}>
                <input type="checkbox" data-tool={n} checked={on} disabled={d.every} onChange={(e) => set({ tools: e.currentTarget.checked ? [...d.tools, n] : d.tools.filter((x) => x !== n) })} />
                <span><b>{label}</b><span class="dim">{hint}</span></span>
              </label>
              <select class="input" aria-label={`${label}: ${t.approval}`} disabled={!on || rule(n) === 'ruled'} title={rule(n) === 'ruled' ? t.ruledHint : t.approval} value={rule(n)} onChange={(e) => setRule(n, e.currentTarget.value)}>
                <option value="">{t.noRule}</option>
                {rule(n) === 'ruled' && <option value="ruled">{t.ruled}</option>}
                {Object.entries(t.rules).map(([k, v]) => <option key={k} value={k}>{v}</option>)}
              </select>
            </li>
          );
        })}
      </ul>
      {wrong && <p class="wrong" role="alert"><Icon name="alert" size={13} />{wrong}</p>}
    </fieldset>
  );
}

/** What the blueprint says in JSON: what it may connect to, what it knows, the form of its report. */
function Extras({ d, set, wrong }: { d: Draft; set: Set; wrong: Wrong }) {
  const t = texts.agents;
  return (
    <fieldset class="panel">
      <legend>{t.extras}</legend>
      {(Object.entries(t.json) as [Json, (typeof t.json)[Json]][]).map(([k, [label, hint, example]]) => (
        <Field key={k} id={`agent-${k}`} label={label} hint={hint} wrong={wrong[k]}>
          <textarea
            class="input mono" id={`agent-${k}`} rows={Math.min(14, Math.max(3, d[k].split('\n').length))} value={d[k]} placeholder={example} spellcheck={false}
            aria-invalid={wrong[k] !== undefined} aria-describedby={wrong[k] ? `agent-${k}-wrong` : undefined} onInput={(e) => set({ [k]: e.currentTarget.value })}
          />
        </Field>
      ))}
    </fieldset>
  );
}

function NetworkPanel({ d, set, wrong }: { d: Draft; set: Set; wrong: Wrong }) {
  const t = texts.agents;
  return (
    <fieldset class="panel">
      <legend>{t.network}</legend>
      <div class="choices">
        {Object.entries(t.networks).map(([k, [label, hint]]) => (
          <label key={k} class="choice" data-on={d.mode === k}><input type="radio" name="network" value={k} checked={d.mode === k} onChange={() => set({ mode: k })} /><b>{label}</b><span class="dim">{hint}</span></label>
        ))}
      </div>
      {d.mode === 'allow' && (
        <Field id="agent-allow" label={t.hosts} hint={t.hostsHint} wrong={wrong.allow}><textarea class="input mono" id="agent-allow" rows={3} value={d.allow} spellcheck={false} aria-invalid={wrong.allow !== undefined} onInput={(e) => set({ allow: e.currentTarget.value })} /></Field>
      )}
      {wrong.network && <p class="wrong" role="alert"><Icon name="alert" size={13} />{wrong.network}</p>}
      {d.mode !== 'none' && (
        <Field id="agent-deny" label={t.deny} wrong={wrong.deny}><textarea class="input mono" id="agent-deny" rows={2} value={d.deny} spellcheck={false} aria-invalid={wrong.deny !== undefined} onInput={(e) => set({ deny: e.currentTarget.value })} /></Field>
      )}
    </fieldset>
  );
}

function Versions({ a, onUse }: { a: Agent; onUse: (v: AgentVersion) => void }) {
  const t = texts.agents;
  const [list, setList] = useState<AgentVersion[]>([]);
  useEffect(() => {
    versions(a.name).then(setList, toastError);
  }, [a.name, a.version]);
  return (
    <fieldset class="panel">
      <legend>{t.versions}</legend>
      <ol class="versions">
        {list.map((v) => (
          <li key={v.version}>
            <b class="num">{t.version(v.version)}</b><time class="dim" dateTime={v.created_at}>{full(v.created_at)}</time>
            {v.version === a.version ? <span class="chip">{t.current}</span> : <button type="button" class="btn small" aria-label={`${t.restore}: ${t.version(v.version)}`} onClick={() => onUse(v)}>{t.restore}</button>}
          </li>
        ))}
      </ol>
    </fieldset>
  );
}

/** Asked while one types, so that a name that is taken is told before everything else is filled in. */
function useTaken(name: string, asked: boolean): 'taken' | 'free' | null {
  const [state, setState] = useState<{ name: string; free: boolean } | null>(null);
  useEffect(() => {
    if (!asked || !NAME.test(name)) return undefined;
    const stop = new AbortController();
    const timer = setTimeout(() => nameFree(name, stop.signal).then((free) => setState({ name, free }), () => undefined), 250);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [name, asked]);
  return state?.name === name ? (state.free ? 'free' : 'taken') : null;
}

export function AgentForm({ agent }: { agent: Agent | null }) {
  const t = texts.agents;
  const [d, setD] = useState(() => draftOf(agent));
  const [tried, setTried] = useState(false);
  const [busy, setBusy] = useState(false);
  const [refused, setRefused] = useState<Wrong>({});
  const [removing, setRemoving] = useState(false);
  const [epoch, setEpoch] = useState(0);
  const reset = (next: Draft) => {
    setD(next);
    setRefused({});
    setEpoch((n) => n + 1);
  };
  // What the server said of a field holds until the field is changed.
  const set: Set = (part) => {
    setD((old) => ({ ...old, ...part }));
    setRefused((old) => Object.fromEntries(Object.entries(old).filter(([k]) => !(k in part) && !(k === 'tools' && 'approval' in part) && !(k === 'network' && ('mode' in part || 'allow' in part || 'deny' in part)))));
  };
  const taken = useTaken(d.name, agent === null);
  const wrong = wrongIn(d);
  if (taken === 'taken' && !wrong.name) wrong.name = t.nameTaken;
  for (const [k, why] of Object.entries(refused) as [keyof Wrong, string][]) wrong[k] ??= why;
  const broken = wrong.servers ?? wrong.skills ?? wrong.schema;
  const changed = agent ? broken !== undefined || Object.keys(changesOf(d, agent)).length > 0 : JSON.stringify(d) !== JSON.stringify(draftOf(null));
  useEffect(() => {
    if (!changed) return undefined;
    const ask = (e: BeforeUnloadEvent) => e.preventDefault();
    addEventListener('beforeunload', ask);
    return () => removeEventListener('beforeunload', ask);
  }, [changed]);
  const save = async () => {
    setTried(true);
    if (busy || Object.keys(wrong).length > 0) return;
    setBusy(true);
    try {
      if (agent) {
        setD(draftOf(await changeAgent(agent.name, changesOf(d, agent))));
        toast('good', t.saved);
      } else {
        const made = await createAgent({ name: d.name, ...bodyOf(d) });
        toast('good', t.created);
        go(paths.agent(made.name), true);
      }
    } catch (e) {
      const field = e instanceof ApiError && e.field ? FIELD_OF[e.field.split(/[.[]/, 1)[0]!] : undefined;
      if (e instanceof ApiError && e.status === 409 && !agent) setRefused({ name: t.nameTaken });
      else if (field) {
        setRefused({ [field]: (e as ApiError).message });
        document.getElementById(`agent-${field}`)?.focus();
      }
      else toastError(e);
    } finally {
      setBusy(false);
    }
  };
  const show = (k: keyof Wrong, filled: string): string | undefined => (tried || filled !== '' ? wrong[k] : undefined);
  return (
    <form class="agent" onSubmit={(e) => { e.preventDefault(); void save(); }} onKeyDown={(e) => { if ((e.ctrlKey || e.metaKey) && e.key === 's') { e.preventDefault(); void save(); } }}>
      <header class="agent-head">
        <a class="icon-btn" href={paths.agents} onClick={follow} aria-label={t.title} title={t.title}><Icon name="back" /></a>
        <h1 class="cut">{agent?.name ?? t.new}</h1>
        {agent && <span class="dim num">{t.version(agent.version)}</span>}
        {agent?.status === 'inactive' && <span class="chip">{t.inactive}</span>}
        <span class="grow" />
        {changed && <span class="unsaved" role="status">{t.unsaved}</span>}
        {agent && changed && <button type="button" class="btn plain" onClick={() => reset(draftOf(agent))}>{t.discard}</button>}
        {agent && !changed && (
          <>
            <IconButton icon="trash" label={t.remove} onClick={() => setRemoving(true)} />
            <button type="button" class="btn" title={t.inactiveHint} onClick={() => setAgentStatus(agent, agent.status === 'active' ? 'inactive' : 'active').catch(toastError)}>{agent.status === 'active' ? t.deactivate : t.activate}</button>
            {agent.status === 'active' && <button type="button" class="btn" onClick={() => { newSessionAgent.value = agent.name; newSessionOpen.value = true; }}><Icon name="play" size={14} />{t.start}</button>}
          </>
        )}
        {(changed || !agent) && <button type="submit" class="btn primary" disabled={busy || (tried && Object.keys(wrong).length > 0)}>{busy && <Spinner />}{agent ? t.save : t.create}</button>}
      </header>
      <div class="agent-body scroll">
        <div class="agent-side">
          {!agent && <Field id="agent-name" label={t.name} hint={t.nameHint} wrong={show('name', d.name)} good={taken === 'free' && !wrong.name ? t.nameFree : undefined}><input class="input mono" id="agent-name" value={d.name} maxLength={64} autocomplete="off" spellcheck={false} autofocus aria-invalid={show('name', d.name) !== undefined} onInput={(e) => set({ name: e.currentTarget.value })} /></Field>}
          <Field id="agent-description" label={t.description} wrong={wrong.description}><input class="input" id="agent-description" value={d.description} maxLength={1000} placeholder={t.descriptionHint} onInput={(e) => set({ description: e.currentTarget.value })} /></Field>
          <div class="pair">
            <Field id="agent-model" label={t.model} wrong={wrong.model}><input class="input mono" id="agent-model" value={d.model} maxLength={200} placeholder={t.modelHint} spellcheck={false} onInput={(e) => set({ model: e.currentTarget.value })} /></Field>
            <Field id="agent-provider" label={t.provider} wrong={wrong.provider}>
              <select class="input" id="agent-provider" value={d.provider} onChange={(e) => set({ provider: e.currentTarget.value })}><option value="">{t.providerDefault}</option><option value="anthropic">Anthropic</option><option value="openai">OpenAI</option></select>
            </Field>
          </div>
          <Tools d={d} set={set} wrong={wrong.tools} />
          <NetworkPanel d={d} set={set} wrong={wrong} />
          <fieldset class="panel">
            <legend>{t.slot}</legend>
            <select class="input" aria-label={t.slot} value={d.kind} onChange={(e) => set({ kind: e.currentTarget.value })}><option value="">{t.slotDefault}</option>{['desktop', 'headless', 'vm'].map((k) => <option key={k} value={k}>{texts.kinds[k]}</option>)}</select>
            {wrong.kind && <p class="wrong" role="alert">{wrong.kind}</p>}
          </fieldset>
          <fieldset class="panel">
            <legend>{t.budget}</legend>
            <div class="pair">
              {LIMITS.map((k) => <Field key={k} id={`agent-${k}`} label={texts.budget.limits[k]}><input class="input num" id={`agent-${k}`} inputMode="decimal" value={d.budget[k] ?? ''} placeholder={texts.budget.noLimit} onInput={(e) => set({ budget: { ...d.budget, [k]: e.currentTarget.value } })} /></Field>)}
            </div>
            {wrong.budget && <p class="wrong">{wrong.budget}</p>}
          </fieldset>
          <Extras d={d} set={set} wrong={wrong} />
          {agent && <Versions a={agent} onUse={(v) => { reset({ ...draftOf(v), name: agent.name }); toast('info', t.restored(v.version)); }} />}
        </div>
        <PromptField text={d.prompt} epoch={epoch} wrong={wrong.prompt} onChange={(prompt) => set({ prompt })} />
      </div>
      {removing && agent && (
        <Confirm
          title={t.removeTitle} text={t.removeText(agent.name)} action={texts.common.delete} onClose={() => setRemoving(false)}
          onConfirm={async () => {
            try {
              await deleteAgent(agent.name);
              go(paths.agents);
              toast('good', t.removed(agent.name));
            } catch (e) {
              toastError(e);
            }
          }}
        />
      )}
    </form>
  );
}
