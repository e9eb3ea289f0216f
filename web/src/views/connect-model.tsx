/** "Connect a model": provider, address, model and key are tried for real; then it is said how to keep them. The page keeps none of it. */
import { useRef, useState } from 'preact/hooks';
import { ApiError, postJson } from '../lib/api';
import { HOME_OF, steps, type Provider } from '../model/connect';
import { status } from '../state/system';
import { connectOpen } from '../state/ui';
import { texts } from '../texts';
import { copyText, Dialog, IconButton, Spinner } from '../ui/controls';
import { Icon } from '../ui/icons';

interface Outcome { ok: boolean; code: string; message: string; model: string | null; status: number; duration_ms: number; managed: boolean }
type Wrong = Partial<Record<'provider' | 'base_url' | 'model' | 'key', string>>;

function Steps({ provider, url, model, managed }: { provider: Provider; url: string; model: string; managed: boolean }) {
  const t = texts.model;
  return (
    <section class="connect-steps">
      <h3>{t.keep}</h3>
      <ol>
        {steps({ provider, base_url: url, model }, managed).map((s) => (
          <li key={s.text}>
            <span>{t.steps[s.text]}</span>
            <pre><code>{s.code}</code><IconButton icon="copy" small label={texts.common.copy} onClick={() => void copyText(s.code)} /></pre>
          </li>
        ))}
      </ol>
      <p class="dim">{t.never}</p>
    </section>
  );
}

export function ConnectModel() {
  const t = texts.model;
  const [provider, setProvider] = useState<Provider>('anthropic');
  const [url, setUrl] = useState('');
  const [model, setModel] = useState(status.value?.demo || !status.value?.model ? t.firstModel : status.value.model);
  const [key, setKey] = useState('');
  const [shown, setShown] = useState(false);
  const [busy, setBusy] = useState(false);
  const [outcome, setOutcome] = useState<Outcome | null>(null);
  const [failed, setFailed] = useState<string | null>(null);
  const [wrong, setWrong] = useState<Wrong>({});
  const stop = useRef<AbortController | null>(null);
  const close = () => {
    stop.current?.abort();
    connectOpen.value = false;
  };
  const changed = () => {
    setOutcome(null);
    setFailed(null);
    setWrong({});
  };
  const choose = (p: Provider) => {
    changed();
    setProvider(p);
    if (model === t.firstModel || model === '') setModel(p === 'anthropic' ? t.firstModel : '');
  };
  const test = async () => {
    if (busy || !model.trim()) return;
    changed();
    setBusy(true);
    stop.current = new AbortController();
    const body = { provider, model: model.trim(), ...(url.trim() ? { base_url: url.trim() } : {}), ...(key ? { key: key.trim() } : {}) };
    try {
      setOutcome(await postJson<Outcome>('/models/test', body, { signal: stop.current.signal }));
    } catch (e) {
      if (stop.current.signal.aborted) return;
      if (e instanceof ApiError && e.field && e.field in body) setWrong({ [e.field]: e.message });
      else setFailed(e instanceof ApiError ? e.message : String(e));
    }
    setBusy(false);
  };
  const bad = (k: keyof Wrong) => wrong[k] && <p class="wrong" id={`cm-${k}-wrong`} role="alert"><Icon name="alert" size={13} />{wrong[k]}</p>;
  const aria = (k: keyof Wrong) => ({ 'aria-invalid': wrong[k] !== undefined, 'aria-describedby': wrong[k] ? `cm-${k}-wrong` : undefined });
  return (
    <Dialog
      title={t.title} onClose={close} onSubmit={() => void test()}
      foot={
        <>
          <span class="grow">{t.cost}</span>
          <button type="button" class="btn" onClick={close}>{texts.common.close}</button>
          <button type="submit" class={`btn ${outcome?.ok ? '' : 'primary'}`} disabled={busy || !model.trim()}>{busy && <Spinner />}{busy ? t.testing : t.test}</button>
        </>
      }
    >
      <div class="segments cm-provider" role="group" aria-label={t.provider}>
        {(['anthropic', 'openai'] as const).map((p) => <button key={p} type="button" aria-pressed={provider === p} onClick={() => choose(p)}>{t.providers[p]}</button>)}
      </div>
      {bad('provider')}
      <div class="field">
        <label class="label" for="cm-key">{t.key}<span class="dim">{t.keyHint}</span></label>
        <div class="with-eye">
          <input id="cm-key" class="input mono" type={(shown ? 'text' : 'password') as 'text'} value={key} maxLength={500} autocomplete="off" spellcheck={false} autofocus data-1p-ignore placeholder={provider === 'anthropic' ? 'sk-ant-…' : 'sk-…'} {...aria('key')} onInput={(e) => { changed(); setKey(e.currentTarget.value); }} />
          <IconButton icon={shown ? 'eyeOff' : 'eye'} label={shown ? t.hide : t.show} onClick={() => setShown(!shown)} />
        </div>
        {bad('key')}
      </div>
      <div class="pair">
        <div class="field">
          <label class="label" for="cm-model">{t.model}</label>
          <input id="cm-model" class="input mono" value={model} maxLength={200} spellcheck={false} placeholder={t.modelHint[provider]} {...aria('model')} onInput={(e) => { changed(); setModel(e.currentTarget.value); }} />
          {bad('model')}
        </div>
        <div class="field">
          <label class="label" for="cm-url">{t.address}</label>
          <input id="cm-url" class="input mono" type="url" inputMode="url" value={url} maxLength={500} spellcheck={false} placeholder={HOME_OF[provider]} {...aria('base_url')} onInput={(e) => { changed(); setUrl(e.currentTarget.value); }} />
          {bad('base_url')}
        </div>
      </div>
      {failed && <p class="verdict bad" role="alert"><Icon name="alert" size={16} /><span>{failed}</span></p>}
      {outcome && !outcome.ok && <p class="verdict bad" role="alert" data-code={outcome.code}><Icon name="alert" size={16} /><span>{outcome.message}</span></p>}
      {outcome?.ok && (
        <>
          <p class="verdict good" role="status" data-code="ok"><Icon name="good" size={16} /><span><b>{t.good(outcome.model ?? model)}</b> {t.took(outcome.duration_ms)}</span></p>
          <Steps provider={provider} url={url.trim()} model={model.trim()} managed={outcome.managed} />
        </>
      )}
    </Dialog>
  );
}
