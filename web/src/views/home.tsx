/** The first view: a welcome that teaches while there is nothing, later what is at work now and what was lately. */
import { useEffect, useState } from 'preact/hooks';
import { frameUrl } from '../lib/images';
import { ago, money } from '../lib/format';
import { follow, paths } from '../lib/router';
import { now } from '../state/clock';
import { demoStep, runDemo, scenario } from '../state/demo';
import { activity, frames, loaded, sorted } from '../state/feed';
import { status } from '../state/system';
import { connectOpen, newSessionOpen } from '../state/ui';
import { texts } from '../texts';
import { isLive, isWorking, type Session } from '../types';
import { Skeleton, Spinner, Status } from '../ui/controls';
import { Drawing } from '../ui/drawing';
import { Icon, type IconName } from '../ui/icons';

const STEP_ICONS: IconName[] = ['message', 'monitor', 'fileChart'];

function DemoButton({ primary }: { primary?: boolean }) {
  if (!scenario.value) return null;
  const busy = demoStep.value !== null;
  return (
    <button type="button" class={`btn ${primary ? 'primary big' : ''}`} onClick={() => void runDemo()} disabled={busy} title={scenario.value.title}>
      {busy ? <Spinner /> : <Icon name="play" size={15} />}
      {demoStep.value ?? texts.demo.run}
    </button>
  );
}

function Welcome() {
  const t = texts.home;
  return (
    <div class="home">
      <section class="hero">
        <div>
          <h1>{t.welcome}</h1>
          <p class="lead">{t.welcomeLead}</p>
          <div class="actions">
            <DemoButton primary />
            <button type="button" class={`btn big ${scenario.value ? '' : 'primary'}`} onClick={() => (newSessionOpen.value = true)}><Icon name="plus" size={16} />{t.start}</button>
            {status.value?.demo === true && <button type="button" class="btn big" onClick={() => (connectOpen.value = true)}><Icon name="plug" size={16} />{t.connect}</button>}
          </div>
          {scenario.value && (
            <p class="note"><Icon name="flask" size={14} /><span>{texts.demo.lead} {status.value?.demo === false ? texts.demo.modelled : texts.demo.scripted}</span></p>
          )}
        </div>
        <Drawing />
      </section>
      <ol class="steps">
        {t.steps.map(([title, text], i) => (
          <li key={title}><Icon name={STEP_ICONS[i]!} size={20} /><h3>{title}</h3><p>{text}</p></li>
        ))}
      </ol>
    </div>
  );
}

/** The newest frame of a running desktop, looked at again when the session takes a screenshot, at most every 3 s. */
function Thumb({ s }: { s: Session }) {
  const [src, setSrc] = useState<string | null>(null);
  const shots = frames.value.get(s.session_id) ?? 0;
  const screen = s.kind !== 'headless' && s.kind !== 'external' && s.worker_id !== null;
  useEffect(() => {
    if (!screen) return undefined;
    let on = true;
    let url: string | null = null;
    const wait = setTimeout(() => {
      frameUrl(s.session_id, 640).then((u) => {
        if (!on) return URL.revokeObjectURL(u);
        url = u;
        return setSrc(u);
      }, () => undefined);
    }, src === null ? 0 : 1200);
    return () => {
      on = false;
      clearTimeout(wait);
      // Given back after the next frame has taken its place.
      if (url) setTimeout(() => URL.revokeObjectURL(url!), 3000);
    };
  }, [s.session_id, shots, s.status, screen]);
  return <div class="tile-screen">{src ? <img src={src} alt="" /> : <Icon name={s.kind === 'headless' ? 'terminal' : 'monitor'} size={28} />}</div>;
}

function Tile({ s }: { s: Session }) {
  const doing = activity.value.get(s.session_id);
  return (
    <a class="tile" href={paths.session(s.session_id)} onClick={follow}>
      <Thumb s={s} />
      <div class="tile-body">
        <div class="row"><span class="tile-name cut">{s.session_name || texts.sessions.unnamed}</span><Status status={s.status} /></div>
        <div class="row"><span class="tile-act cut">{(isWorking(s.status) && doing) || texts.statusHint[s.status]}</span></div>
      </div>
    </a>
  );
}

export function Home() {
  if (!loaded.value) {
    return <div class="home"><Skeleton width={180} height={22} /><div class="tiles"><Skeleton width="100%" height={240} /><Skeleton width="100%" height={240} /></div></div>;
  }
  const all = sorted.value;
  if (all.length === 0) return <div class="page scroll full"><Welcome /></div>;
  const live = all.filter((s) => isLive(s.status));
  const past = all.filter((s) => !isLive(s.status)).slice(0, 12);
  return (
    <div class="page scroll full">
      <div class="home">
        <header class="home-head">
          <h1>{texts.home.title}</h1>
          <div class="home-actions"><DemoButton /><button type="button" class="btn primary" onClick={() => (newSessionOpen.value = true)}><Icon name="plus" size={15} />{texts.home.start}</button></div>
        </header>
        <section>
          <h2 class="section-title">{texts.home.live}<span class="n">{live.length}</span></h2>
          {live.length === 0 ? <p class="home-none"><Icon name="ship" size={20} /><span><b>{texts.home.nothing}</b> {texts.home.nothingHint}</span></p> : <div class="tiles">{live.slice(0, 12).map((s) => <Tile key={s.session_id} s={s} />)}</div>}
        </section>
        {past.length > 0 && (
          <section>
            <h2 class="section-title">{texts.home.recent}</h2>
            <div class="rows">
              {past.map((s) => (
                <a key={s.session_id} href={paths.session(s.session_id)} onClick={follow}>
                  <span class="cut">{s.session_name || texts.sessions.unnamed}</span>
                  <Status status={s.status} />
                  <span class="end">{texts.kinds[s.kind ?? ''] ?? s.kind}</span>
                  <span class="end num">{money(s.usage?.cost_usd ?? 0)}</span>
                  <span class="end">{ago(s.modified_at, now.value)}</span>
                </a>
              ))}
            </div>
          </section>
        )}
      </div>
    </div>
  );
}
