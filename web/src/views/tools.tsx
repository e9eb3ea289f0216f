/** Tool calls: a compact card with what was done, and its input and output in the form that fits the tool. */
import type { ComponentChildren } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import { diffLines, type DiffLine } from '../lib/diff';
import { duration, full } from '../lib/format';
import { linesHtml, painter } from '../lib/highlight';
import { follow, paths } from '../lib/router';
import { describe, type Described, type Point } from '../model/describe';
import { languageOf } from '../model/filetype';
import type { Item, ToolItem } from '../model/transcript';
import type { Block, ImageBlock } from '../types';
import { texts } from '../texts';
import { Code } from '../ui/code';
import { Spinner } from '../ui/controls';
import { Icon, type IconName } from '../ui/icons';
import { lightbox, type Shot } from '../ui/lightbox';
import { Picture } from '../ui/picture';
import { Delegated, Program, Question, Report } from './tool-cards';

const str = (v: unknown): string => (typeof v === 'string' ? v : '');
const textOf = (blocks: Block[]): string => blocks.flatMap((b) => (b.type === 'text' ? [b.text] : [])).join('\n');
const imageOf = (blocks: Block[]): ImageBlock | undefined => blocks.find((b): b is ImageBlock => b.type === 'image');
export const isLost = (t: ToolItem): boolean => t.error === 'interrupted' || /interrupted|effect unknown/i.test(t.error ?? '');

/** All screenshots of the session, for going through them. */
function shots(all: Item[]): Shot[] {
  return all.flatMap((i): Shot[] => {
    if (i.kind === 'shot') return [{ image: i.image, title: texts.tools.computer.screenshot, point: null, from: null }];
    if (i.kind !== 'tool') return [];
    const image = imageOf(i.output);
    if (!image) return [];
    const d = describe(i.name, i.input);
    return [{ image, title: d.title, point: d.point, from: d.from }];
  });
}

export function ShotButton(props: { image: ImageBlock; title: string; point: Point | null; from: Point | null; all: Item[]; bare?: boolean }) {
  const open = () => {
    const list = shots(props.all);
    const index = list.findIndex((s) => s.image === props.image || (s.image.url === props.image.url && s.title === props.title));
    lightbox.value = index >= 0 ? { shots: list, index } : { shots: [{ image: props.image, title: props.title, point: props.point, from: props.from }], index: 0 };
  };
  return (
    <button type="button" class={`shot ${props.bare ? 'bare' : ''}`} onClick={open} aria-label={`${texts.tools.enlarge}: ${props.title}`}>
      <span class="shot-in"><Picture image={props.image} alt={texts.tools.screenshotAlt(props.title)} point={props.point} from={props.from} /></span>
    </button>
  );
}

const ICON: Record<string, IconName> = {
  screenshot: 'camera', zoom: 'search', type: 'keyboard', key: 'keyboard', hold_key: 'keyboard', wait: 'clock',
};

export function iconOf(d: Described): IconName {
  if (d.family === 'computer') return ICON[d.action] ?? 'pointer';
  if (d.family === 'bash') return 'terminal';
  if (d.family === 'edit') return d.action === 'view' ? 'eye' : 'pencil';
  if (d.family === 'document') return 'fileChart';
  if (d.family === 'code') return 'fileCode';
  if (d.family === 'ask' || d.family === 'session') return 'message';
  if (d.family === 'report') return 'good';
  if (d.family === 'mcp') return 'unplug';
  return 'wrench';
}

function Side({ item, children }: { item: ToolItem; children?: ComponentChildren }) {
  const t = texts.tools;
  return (
    <span class="tool-side" title={full(item.at)}>
      {children}
      {item.state === 'running' && <><Spinner /><span class="sr">{t.running}</span></>}
      {item.state === 'pending' && <span>{t.waiting}</span>}
      {item.exitCode !== null && item.exitCode !== 0 && <span class="bad">{t.exit(item.exitCode)}</span>}
      {item.state === 'failed' && !(item.exitCode !== null && item.exitCode !== 0) && <span class="bad">{isLost(item) ? t.interrupted : t.failed}</span>}
      {item.durationMs !== null && <span>{duration(item.durationMs)}</span>}
    </span>
  );
}

const LINES = 14;

/** The first lines and a way to the rest. */
function useClip(text: string): { shown: string; total: number; open: boolean; toggle: () => void; long: boolean } {
  const [open, setOpen] = useState(false);
  const lines = useMemo(() => text.split('\n'), [text]);
  const long = lines.length > LINES + 3;
  return { shown: long && !open ? lines.slice(0, LINES).join('\n') : text, total: lines.length, open, toggle: () => setOpen(!open), long };
}

function Terminal({ item }: { item: ToolItem }) {
  const command = str(item.input.command);
  const out = useClip(item.state === 'running' ? item.printed.trimEnd().split('\n').slice(-LINES).join('\n') : textOf(item.output).replace(/\n$/, ''));
  const cmd = useClip(command);
  return (
    <>
      <div class="term" tabIndex={0} role="group" aria-label={texts.tools.output}>
        {command && <pre class="cmd"><Code text={cmd.shown} language="bash" />{cmd.long && !cmd.open && '\n…'}</pre>}
        {out.shown && <pre class="out">{out.shown}</pre>}
        {item.error && !isLost(item) && <pre class="err">{item.error}</pre>}
        {(item.state === 'done' || item.state === 'failed') && !out.shown && !item.error && <div class="none">{texts.tools.noOutput}</div>}
      </div>
      {(out.long || cmd.long) && (
        <button type="button" class="term-more" onClick={() => { if (out.long) out.toggle(); if (cmd.long) cmd.toggle(); }}>
          {(out.long ? out.open : cmd.open) ? texts.common.showLess : texts.common.showAll(out.long ? out.total : cmd.total)}
        </button>
      )}
    </>
  );
}

function changes(item: ToolItem): DiffLine[] {
  const i = item.input;
  switch (str(i.command)) {
    case 'str_replace': return diffLines(str(i.old_str), str(i.new_str));
    case 'create': return str(i.file_text).replace(/\n$/, '').split('\n').map((text) => ({ sign: '+', text }));
    case 'insert': return (str(i.insert_text) || str(i.new_str)).replace(/\n$/, '').split('\n').map((text) => ({ sign: '+', text }));
    default: return [];
  }
}

function Diff({ lines, file }: { lines: DiffLine[]; file: string }) {
  const [open, setOpen] = useState(false);
  const long = lines.length > LINES + 4;
  const has = painter.value;
  const shown = long && !open ? lines.slice(0, LINES) : lines;
  const html = useMemo(() => linesHtml(shown.map((l) => l.text), languageOf(file)), [lines, open, has, file]);
  return (
    <>
      <div class="diff" tabIndex={0} role="group" aria-label={texts.tools.output}>
        <div class="diff-in">{shown.map((l, n) => <div key={n} class="diff-l" data-sign={l.sign}><i>{l.sign.trim()}</i><span class="hljs" dangerouslySetInnerHTML={{ __html: html[n] || ' ' }} /></div>)}</div>
      </div>
      {long && <button type="button" class="term-more light" onClick={() => setOpen(!open)}>{open ? texts.common.showLess : texts.common.showAll(lines.length)}</button>}
    </>
  );
}

/** A card whose body can be folded. */
function Folding(props: { item: ToolItem; d: Described; file?: string; start: boolean; side?: ComponentChildren; children: ComponentChildren }) {
  const [open, setOpen] = useState(props.start);
  return (
    <div class="tool" data-state={props.item.state} data-tool={props.d.family}>
      <button type="button" class="tool-head" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name={iconOf(props.d)} size={15} />
        <span class="tool-title cut">{props.d.title}</span>
        {props.file && <span class="tool-file cut mono">{props.file}</span>}
        <Side item={props.item}>{props.side}</Side>
        <Icon name="chevron" size={14} class="chev" />
      </button>
      {open && props.children}
    </div>
  );
}

function EditCard({ item, d }: { item: ToolItem; d: Described }) {
  const lines = useMemo(() => changes(item), [item]);
  const added = lines.filter((l) => l.sign === '+').length;
  const removed = lines.filter((l) => l.sign === '-').length;
  const text = textOf(item.output);
  return (
    <Folding
      item={item} d={d} file={str(item.input.path)} start={lines.length > 0 || item.error !== null}
      side={lines.length > 0 && <span>{added > 0 && <span class="plus">{texts.tools.added(added)}</span>} {removed > 0 && <span class="minus">{texts.tools.removed(removed)}</span>}</span>}
    >
      {lines.length > 0 && <Diff lines={lines} file={str(item.input.path)} />}
      {lines.length === 0 && text && <div class="tool-text" tabIndex={0}><Code text={text} language={item.error ? '' : languageOf(str(item.input.path))} /></div>}
      {item.error && <div class="tool-error">{item.error}</div>}
    </Folding>
  );
}

function ComputerCard({ item, d, all }: { item: ToolItem; d: Described; all: Item[] }) {
  const image = imageOf(item.output);
  return (
    <div class="tool" data-state={item.state} data-tool="computer">
      <div class="tool-head">
        <Icon name={iconOf(d)} size={15} />
        <span class="tool-title cut" title={d.title}>{d.title}</span>
        <Side item={item} />
      </div>
      {item.error && !isLost(item) && <div class="tool-error">{item.error}</div>}
      {image && <ShotButton image={image} title={d.title} point={d.point} from={d.from} all={all} />}
    </div>
  );
}

/** The id of the document a call stored, when its answer names one. */
function documentId(item: ToolItem): string | null {
  const text = textOf(item.output);
  try {
    const o = JSON.parse(text) as { id?: unknown; document_id?: unknown };
    if (typeof o.document_id === 'string') return o.document_id;
    if (typeof o.id === 'string') return o.id;
  } catch {
    // A sentence, then: an id in it is as good.
  }
  return /\b(?:id|document)[ :=]+"?([A-Za-z0-9_-]{8,64})\b/i.exec(text)?.[1] ?? null;
}

function OtherCard({ item, d }: { item: ToolItem; d: Described }) {
  const text = textOf(item.output);
  const id = d.family === 'document' && item.state === 'done' ? documentId(item) : null;
  const to = id ? paths.document(id) : paths.documents;
  return (
    <>
      <Folding item={item} d={d} start={item.error !== null}>
        <div class="tool-text" tabIndex={0}><Code text={JSON.stringify(item.input, null, 2)} language="json" /></div>
        {text && <div class="tool-text" tabIndex={0}>{text}</div>}
        {item.error && <div class="tool-error">{item.error}</div>}
      </Folding>
      {d.family === 'document' && item.state === 'done' && (
        <div class="tool-after"><a href={to} onClick={follow}><Icon name="files" size={14} />{texts.tools.openDocument}</a></div>
      )}
    </>
  );
}

export function ToolCard({ item, all }: { item: ToolItem; all: Item[] }) {
  const d = describe(item.name, item.input, item.state === 'running' || item.state === 'pending');
  if (d.family === 'computer') return <ComputerCard item={item} d={d} all={all} />;
  if (d.family === 'bash') return <Folding item={item} d={d} start><Terminal item={item} /></Folding>;
  if (d.family === 'edit') return <EditCard item={item} d={d} />;
  if (d.family === 'code') return <Folding item={item} d={d} start><Program item={item} /></Folding>;
  if (d.family === 'ask') return <Folding item={item} d={d} start><Question item={item} /></Folding>;
  if (d.family === 'session') return <Folding item={item} d={d} start><Delegated item={item} /></Folding>;
  if (d.family === 'report') return <Folding item={item} d={d} start><Report item={item} /></Folding>;
  return <OtherCard item={item} d={d} />;
}
