/** First contact: the token, and what this is. */
import { useState } from 'preact/hooks';
import { ApiError } from '../lib/api';
import { refused, signIn } from '../state/auth';
import { texts } from '../texts';
import { IconButton, Spinner } from '../ui/controls';
import { Drawing } from '../ui/drawing';
import { Icon, Mark, type IconName } from '../ui/icons';

const ICONS: IconName[] = ['monitor', 'eye', 'hand'];

export function Connect() {
  const t = texts.connect;
  const [token, setToken] = useState('');
  const [shown, setShown] = useState(false);
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState<string | null>(refused.value ? t.wrong : null);
  const submit = async (e: Event) => {
    e.preventDefault();
    const value = token.trim();
    if (value === '' || busy) return;
    setBusy(true);
    setWrong(null);
    try {
      await signIn(value);
    } catch (err) {
      setWrong(err instanceof ApiError && err.status !== 401 && err.status !== 403 ? err.message : t.wrong);
      setBusy(false);
    }
  };
  return (
    <div class="connect">
      <main class="connect-form">
        <form onSubmit={submit}>
          <span class="brand"><Mark size={30} />{texts.product}</span>
          <h1>{t.title}</h1>
          <p class="lead">{t.lead}</p>
          <div class="field">
            <label class="label" for="token">{t.label}</label>
            <div class="with-eye">
              <input
                id="token" class="input" type={(shown ? 'text' : 'password') as 'text'} value={token} placeholder={t.placeholder} autocomplete="current-password" spellcheck={false} autofocus
                aria-invalid={wrong !== null} aria-describedby={wrong ? 'token-wrong' : undefined} onInput={(e) => setToken(e.currentTarget.value)}
              />
              <IconButton icon={shown ? 'eyeOff' : 'eye'} label={shown ? t.hide : t.show} onClick={() => setShown(!shown)} />
            </div>
            {wrong && <p class="wrong" id="token-wrong" role="alert"><Icon name="alert" size={14} />{wrong}</p>}
          </div>
          <button type="submit" class="btn primary big wide" disabled={busy || token.trim() === ''}>
            {busy && <Spinner />}
            {busy ? t.checking : t.submit}
          </button>
          <details>
            <summary>{t.where}</summary>
            <p>{t.whereText} {t.kept}</p>
          </details>
        </form>
      </main>
      <aside class="connect-side">
        <Drawing />
        <ul>
          {t.points.map(([title, text], i) => (
            <li key={title}>
              <Icon name={ICONS[i]!} size={26} />
              <div><h2>{title}</h2><p>{text}</p></div>
            </li>
          ))}
        </ul>
      </aside>
    </div>
  );
}
