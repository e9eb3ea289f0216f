/** The dialog that starts a session. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { getJson } from '../lib/api';
import { bytes } from '../lib/format';
import { go, paths } from '../lib/router';
import { agents, loadAgents } from '../state/agents';
import { uploadFile } from '../state/documents';
import { createSession, type NewSession as Body } from '../state/feed';
import { status } from '../state/system';
import { toastError } from '../state/toasts';
import { newSessionAgent } from '../state/ui';
import { texts } from '../texts';
import { Dialog, IconButton, Spinner } from '../ui/controls';
import { Icon, type IconName } from '../ui/icons';

interface Attached { key: number; file: File; path: string }
type Kind = 'desktop' | 'headless' | 'vm';
const KINDS: [Kind, IconName][] = [['desktop', 'monitor'], ['headless', 'terminal'], ['vm', 'server']];

export function NewSession({ onClose }: { onClose: () => void }) {
  const t = texts.create;
  const [kind, setKind] = useState<Kind>('desktop');
  const [machines, setMachines] = useState(false);
  const [touched, setTouched] = useState(false);
  const [agent, setAgent] = useState(newSessionAgent.value ?? '');
  const [name, setName] = useState('');
  const [model, setModel] = useState('');
  const [message, setMessage] = useState('');
  const [files, setFiles] = useState<Attached[]>([]);
  const [over, setOver] = useState(false);
  const [step, setStep] = useState<string | null>(null);
  const picker = useRef<HTMLInputElement>(null);
  const next = useRef(1);

  useEffect(() => {
    // The form does without the list where it cannot be read.
    loadAgents().catch(() => undefined);
    // Offered where a worker makes them: without its image no host does.
    getJson<{ workers: { kinds: string[] }[] }>('/workers').then((r) => setMachines(r.workers.some((w) => w.kinds.includes('vm')))).catch(() => undefined);
    return () => {
      newSessionAgent.value = null;
    };
  }, []);
  const active = (agents.value ?? []).filter((a) => a.status === 'active');
  const of = active.find((a) => a.name === agent);
  const agentKind = typeof of?.slot?.kind === 'string' ? of.slot.kind : null;
  const chosen = !touched && KINDS.some(([k]) => k === agentKind) ? agentKind : kind;

  const add = (list: Iterable<File>) => setFiles((old) => [...old, ...[...list].map((file) => ({ key: next.current++, file, path: file.name }))]);

  const submit = async () => {
    if (step !== null) return;
    setStep(t.submitting);
    try {
      const placed = [];
      for (const [i, f] of files.entries()) {
        setStep(t.uploading(i + 1, files.length));
        const doc = await uploadFile(f.file, f.file.name, []);
        placed.push({ document_id: doc.id, path: f.path.trim().replace(/^\/+/, '') || f.file.name });
      }
      setStep(t.submitting);
      // What the agent says holds where nothing else was chosen.
      const body: Body = agentKind && !touched ? {} : { kind };
      if (agent) body.agent_name = agent;
      if (name.trim()) body.session_name = name.trim();
      if (model.trim()) body.model = model.trim();
      if (message.trim()) body.message = message.trim();
      if (placed.length > 0) body.files = placed;
      const s = await createSession(body);
      onClose();
      go(paths.session(s.session_id));
    } catch (e) {
      toastError(e);
      setStep(null);
    }
  };

  return (
    <Dialog
      title={t.title} onClose={onClose} onSubmit={() => void submit()}
      foot={
        <>
          <span class="grow"><kbd>Ctrl</kbd> <kbd>Enter</kbd> {t.send}</span>
          <button type="button" class="btn" onClick={onClose}>{texts.common.cancel}</button>
          <button type="submit" class="btn primary" disabled={step !== null}>{step !== null && <Spinner />}{step ?? t.submit}</button>
        </>
      }
    >
      <div class="field">
        <label class="label" for="ns-message">{t.message}</label>
        <textarea
          id="ns-message" class="input" rows={4} autofocus placeholder={t.messagePlaceholder} value={message} onInput={(e) => setMessage(e.currentTarget.value)}
          onKeyDown={(e) => {
            if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) void submit();
          }}
        />
      </div>
      <div class="field">
        <span class="label" id="ns-kind">{t.kind}</span>
        <div class="kinds" role="radiogroup" aria-labelledby="ns-kind">
          {KINDS.filter(([k]) => k !== 'vm' || machines || chosen === k).map(([k, icon]) => (
            <label key={k}>
              <input type="radio" class="sr" name="kind" value={k} checked={chosen === k} onChange={() => { setKind(k); setTouched(true); }} />
              <Icon name={icon} size={18} /><b>{t[k]}</b><span>{t[`${k}Hint`]}</span>
            </label>
          ))}
        </div>
      </div>
      <div
        class="field"
        onDragOver={(e) => {
          e.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={(e) => {
          e.preventDefault();
          setOver(false);
          add(e.dataTransfer?.files ?? []);
        }}
      >
        <span class="label">{t.files}<span class="dim">{texts.common.optional}</span></span>
        {files.length > 0 && (
          <ul class="files">
            {files.map((f) => (
              <li key={f.key}>
                <Icon name="file" size={14} />
                <span class="cut" title={f.file.name}>{f.file.name} <span class="dim">{bytes(f.file.size)}</span></span>
                <input class="input" aria-label={t.path} value={f.path} onInput={(e) => { const path = e.currentTarget.value; setFiles((old) => old.map((o) => (o.key === f.key ? { ...o, path } : o))); }} />
                <IconButton icon="x" small label={t.removeFile(f.file.name)} onClick={() => setFiles((old) => old.filter((o) => o.key !== f.key))} />
              </li>
            ))}
          </ul>
        )}
        <button type="button" class={`drop-line ${over ? 'over' : ''}`} onClick={() => picker.current?.click()}>
          <Icon name="clip" size={14} />{over ? t.drop : t.addFiles}<span class="dim">{!over && t.filesHint}</span>
        </button>
        <input ref={picker} type="file" multiple hidden onChange={(e) => { add(e.currentTarget.files ?? []); e.currentTarget.value = ''; }} />
      </div>
      {active.length > 0 && (
        <div class="field">
          <label class="label" for="ns-agent">{t.agent}<span class="dim">{texts.common.optional}</span></label>
          <select id="ns-agent" class="input" value={agent} onChange={(e) => setAgent(e.currentTarget.value)}>
            <option value="">{t.noAgent}</option>
            {active.map((a) => <option key={a.name} value={a.name}>{a.description ? `${a.name}: ${a.description}` : a.name}</option>)}
          </select>
        </div>
      )}
      <div class="pair">
        <div class="field">
          <label class="label" for="ns-name">{t.name}<span class="dim">{texts.common.optional}</span></label>
          <input id="ns-name" class="input" maxLength={200} placeholder={t.namePlaceholder} value={name} onInput={(e) => setName(e.currentTarget.value)} />
        </div>
        <div class="field">
          <label class="label" for="ns-model">{t.model}<span class="dim">{texts.common.optional}</span></label>
          <input id="ns-model" class="input" maxLength={200} spellcheck={false} placeholder={status.value?.model ? t.modelDefault(status.value.model) : t.modelPlaceholder} value={model} onInput={(e) => setModel(e.currentTarget.value)} />
        </div>
      </div>
    </Dialog>
  );
}
