/** The first view: a welcome that teaches while there is nothing, later what is at work now and what was lately. */
import { useEffect, useState } from 'preact/hooks';
import { frameUrl } from '../lib/images';
import { ago, money } from '../lib/format';
import { follow, paths } from '../lib/router';
import { now } from '../state/clock';
import { demoStep, runDemo, scenario } from '../state/demo';
import { activity, frames, loaded, sorted } from '../state/feed';
import { status } from '../state/system';
import { newSessionOpen } from '../state/ui';
import { texts } from '../texts';
import { isLive, isWorking, type Session } from '../types';
import { Skeleton, Spinner, Status } from '../ui/controls';
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

/** What a session looks like, drawn from the page's own shapes. */
function Drawing() {
  const line = (x: number, y: number, w: number, tone = 'var(--line-strong)', hgt = 5) => <rect x={x} y={y} width={w} height={hgt} rx={hgt / 2} fill={tone} />;
  return (
    <div class="drawing" aria-hidden="true">
      <svg viewBox="0 0 460 300">
        <rect x="0.5" y="0.5" width="186" height="299" rx="9" fill="var(--surface)" stroke="var(--line)" />
        <rect x="72" y="18" width="98" height="38" rx="9" fill="var(--accent-soft)" />
        {line(84, 30, 72, 'var(--accent)')}{line(84, 41, 48, 'var(--accent)')}
        {line(18, 74, 120)}{line(18, 86, 138)}{line(18, 98, 84)}
        <rect x="18.5" y="116.500" width="149" height="74" rx="7" fill="var(--surface)" stroke="var(--line)" />
        <circle cx="31" cy="129" r="4" fill="none" stroke="var(--buoy)" stroke-width="2" />{line(41, 127, 64)}
        <rect x="19" y="141" width="148" height="49" rx="5" fill="var(--term)" />
        {line(28, 151, 62, 'var(--term-prompt)', 4)}{line(28, 161, 104, 'var(--term-dim)', 4)}{line(28, 171, 84, 'var(--term-dim)', 4)}
        {line(18, 206, 132)}{line(18, 218, 98)}{line(18, 230, 40, 'var(--buoy)')}
        <rect x="12.5" y="262.500" width="161" height="26" rx="8" fill="var(--surface)" stroke="var(--line-strong)" /><rect x="150" y="267" width="18" height="17" rx="5" fill="var(--ink)" />
        <rect x="200" y="0" width="260" height="300" rx="9" fill="var(--term)" />
        <rect x="216" y="34" width="228" height="206" rx="6" fill="light-dark(#f7f6f3, #e6e9e8)" /><rect x="216" y="34" width="228" height="20" rx="6" fill="light-dark(#dcd9d1, #c9cfce)" />
        <circle cx="226" cy="44" r="3" fill="#f0693c" /><circle cx="236" cy="44" r="3" fill="#b9b4a8" /><circle cx="246" cy="44" r="3" fill="#b9b4a8" />
        {line(230, 68, 88, '#15191b', 7)}
        {[90, 112, 134, 156, 178].map((y) => <g key={y}>{line(230, y, 46, '#9aa1a3')}{line(292, y, 70, '#c3c8c8')}{line(382, y, 40, y === 134 ? '#f0693c' : '#5f9d97')}<rect x="230" y={y + 12} width="200" height="1" fill="#dedbd3" /></g>)}
        {[[240, 26], [262, 40], [284, 18], [306, 33], [328, 12]].map(([x, t]) => <rect key={x} x={x} y={234 - t!} width="14" height={t} rx="2" fill="#2b8a82" />)}
        <circle cx="402" cy="137" r="13" fill="#f0693c33" stroke="#f0693c" stroke-width="2.500" /><path d="M402 137l5 15 3.500-5.500 6-1.500z" fill="#15191b" stroke="#fff" stroke-width="1.200" />
        <rect x="216" y="12" width="44" height="13" rx="6.500" fill="#f0693c" /><circle cx="225" cy="18.500" r="2.500" fill="#fff" />{line(231, 16.500, 22, '#fff', 4)}
        <rect x="200" y="276" width="260" height="24" rx="0" fill="#2a3236" /><rect x="210" y="282" width="12" height="12" rx="3" fill="#7fd8cd" /><rect x="228" y="282" width="40" height="12" rx="3" fill="#46525a" />
      </svg>
    </div>
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
  useEffect(() => {
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
  }, [s.session_id, shots, s.status]);
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
          {live.length === 0 ? <p class="dim">{texts.home.nothing}</p> : <div class="tiles">{live.slice(0, 12).map((s) => <Tile key={s.session_id} s={s} />)}</div>}
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
