// The page in a real Chromium: how long after its byte a live text stands on the screen, and how smoothly 10 000 events scroll.
// Peers in the same run: the bare WebSocket of the same page (the moment its message arrives), and the same 10 000 lines as plain HTML.
//   node bench/page.mjs      needs web/dist (npm run build)
import { startFake } from '../tests/fakes/gateway.mjs';
import { enter, launch, WIDE } from '../tests/web/browser.mjs';

const TEXTS = 100;
const EVENTS = 10_000;
const FRAMES = 120;
const at = (sorted, part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
const say = (name, list) => {
  const s = [...list].sort((a, b) => a - b);
  console.log(`${name.padEnd(46)} median ${at(s, 0.5).toFixed(1)} ms, 95% ${at(s, 0.95).toFixed(1)} ms, 99% ${at(s, 0.99).toFixed(1)} ms`);
  return at(s, 0.95);
};
// What the page's main thread itself used: unlike times, this holds on a machine that has other things to do.
async function thread(p) {
  const cdp = await p.context().newCDPSession(p);
  await cdp.send('Performance.enable', { timeDomain: 'threadTicks' });
  return async () => (await cdp.send('Performance.getMetrics')).metrics.find((m) => m.name === 'TaskDuration').value * 1000;
}
const now = () => performance.timeOrigin + performance.now();

const fake = await startFake({ seed: true, demo: false });
const browser = await launch();
const page = await (await browser.newContext({ viewport: WIDE })).newPage();

// When a message arrives in the page's own socket, and when its text is in the document and the frame with it was made.
await page.addInitScript(() => {
  const times = (globalThis.times = { arrived: {}, shown: {}, painted: {} });
  const clock = () => performance.timeOrigin + performance.now();
  globalThis.WebSocket = class extends WebSocket {
    constructor(...args) {
      super(...args);
      this.addEventListener('message', (e) => {
        const n = /«(\d+)»/.exec(e.data)?.[1];
        if (n) times.arrived[n] ??= clock();
      });
    }
  };
  addEventListener('DOMContentLoaded', () => {
    new MutationObserver(() => {
      const text = document.querySelector('.stream-tail, .prose.caret')?.textContent ?? '';
      for (const [, n] of text.matchAll(/«(\d+)»/g)) {
        if (times.shown[n]) continue;
        times.shown[n] = clock();
        // The frame is made after the callbacks of requestAnimationFrame; a message posted from there comes when it is.
        requestAnimationFrame(() => {
          const c = new MessageChannel();
          c.port1.onmessage = () => (times.painted[n] = clock());
          c.port2.postMessage(0);
        });
      }
    }).observe(document, { childList: true, subtree: true, characterData: true });
  });
});

const s = fake.newSession({ session_name: 'Live', kind: 'headless' });
fake.emit(s, 'message', { role: 'user', content: 'Go on', message_id: 'm' });
fake.setStatus(s, 'running');
await enter(page, fake, `/s/${s.session.session_id}`);
await page.waitForSelector('.said');
const used = await thread(page);
const usedBefore = await used();
const sent = {};
for (let n = 0; n < TEXTS; n++) {
  sent[n] = now();
  for (const w of s.watchers) w.send(JSON.stringify({ type: 'delta', session_id: s.session.session_id, turn: 1, block: 0, kind: 'text', text: ` word «${n}»` }));
  await new Promise((r) => setTimeout(r, 37));
}
await page.waitForFunction((n) => globalThis.times.painted[n - 1], TEXTS);
const usedAll = (await used()) - usedBefore;
const times = await page.evaluate(() => globalThis.times);
const ids = Object.keys(sent).filter((n) => times.painted[n]);
console.log(`live text, ${ids.length} pieces of a growing answer:`);
const peer = say('  byte sent -> in the socket of the page (peer)', ids.map((n) => times.arrived[n] - sent[n]));
say('  byte sent -> in the document', ids.map((n) => times.shown[n] - sent[n]));
const whole = say('  byte sent -> in a frame', ids.map((n) => times.painted[n] - sent[n]));
console.log(`  ratio to the peer at 95%: ${(whole / peer).toFixed(2)}; at most 50 ms is wanted: ${whole <= 50 ? 'kept' : `${(whole - 50).toFixed(0)} ms too long`}`);
console.log(`  processor time of the page's main thread: ${(usedAll / TEXTS).toFixed(1)} ms a piece`);

// Scrolling
const long = fake.newSession({ session_name: 'Long', kind: 'headless' });
for (let i = 1; i <= EVENTS; i++) fake.emit(long, ['log', 'thinking', 'pre_tool', 'usage'][i % 4], { message: `line ${i}`, content: `thought ${i}`, tool_call_id: `c${i}`, tool_name: 'bash', tool_input: { command: `ls -l /home/agent/${i}` }, usage: { input_tokens: i, output_tokens: 7 } });
/** Scrolls a box frame by frame; the time from each frame to the next. */
const scroll = (p, selector) => p.evaluate(async ([sel, frames]) => {
  const box = document.querySelector(sel);
  box.scrollTop = 0;
  const frame = () => new Promise((r) => requestAnimationFrame(r));
  await frame();
  const gaps = [];
  let last = await frame();
  for (let i = 0; i < frames; i++) {
    box.scrollTop += 120;
    const t = await frame();
    gaps.push(t - last);
    last = t;
  }
  return gaps;
}, [selector, FRAMES]);
await page.goto(`${fake.url}/s/${long.session.session_id}/timeline`);
await page.waitForSelector(`.event[data-seq="${EVENTS}"]`);
await page.hover('.events');
await page.mouse.wheel(0, -4000);
await page.waitForSelector('.timeline-end');
const t0 = await used();
const ours = await scroll(page, '.events');
const t1 = await used();
const plain = await (await browser.newContext({ viewport: WIDE })).newPage();
await plain.setContent(`<div id="box" style="height:800px;overflow:auto;font:12px monospace">${Array.from({ length: EVENTS }, (_, i) => `<div style="height:32px">${i} log line ${i}</div>`).join('')}</div>`);
const usedPlain = await thread(plain);
const p0 = await usedPlain();
const theirs = await scroll(plain, '#box');
const p1 = await usedPlain();
const rate = (gaps) => (1000 * gaps.length) / gaps.reduce((a, b) => a + b, 0);
console.log(`timeline of ${EVENTS} events, ${FRAMES} frames of 120 px:`);
console.log(`  the page ${rate(ours).toFixed(1)} frames/s, ${ours.filter((g) => g > 25).length} of ${FRAMES} late; plain HTML (peer) ${rate(theirs).toFixed(1)} frames/s, ${theirs.filter((g) => g > 25).length} late; ratio ${(rate(ours) / rate(theirs)).toFixed(2)}`);
console.log(`  processor time of a frame on the main thread: the page ${((t1 - t0) / FRAMES).toFixed(2)} ms, peer ${((p1 - p0) / FRAMES).toFixed(2)} ms; 16.7 ms are 60 frames/s`);
await browser.close();
await fake.close();
process.exit(0);
