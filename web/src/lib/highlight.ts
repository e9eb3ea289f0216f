/** Code in colours, as soon as the highlighter has come; until then, and where it cannot come, the same text without. */
import { signal } from '@preact/signals';
import DOMPurify from 'dompurify';

/** More than this is shown plain: nobody reads the colours of it, and typing must not wait for them. */
const MOST = 120_000;

type Paint = (text: string, language: string) => string | null;

/** Read where code is shown: views are drawn again when it comes. */
export const painter = signal<Paint | null>(null);
let asked = false;

const escape = (s: string): string => s.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!);
const purify = DOMPurify(window);
/** Whatever a highlighter gives: text and spans with classes of its own, nothing else. */
const only = (html: string): string => purify.sanitize(html, { ALLOWED_TAGS: ['span'], ALLOWED_ATTR: ['class'] });

function raw(text: string, language: string): string {
  if (!language || text.length > MOST) return escape(text);
  if (!painter.value) {
    if (!asked) {
      asked = true;
      import('./highlighter').then((m) => (painter.value = m.paint), () => undefined);
    }
    return escape(text);
  }
  return painter.value(text, language) ?? escape(text);
}

/** HTML for the inside of a code element. */
export const codeHtml = (text: string, language: string): string => only(raw(text, language));

/** The same for each line by itself, as in a diff, where neighbours need not belong together. */
export const linesHtml = (lines: string[], language: string): string[] => only(lines.map((l) => raw(l.replace(/[\r\n]/g, ''), language)).join('\n')).split('\n');
