/** Markdown to safe HTML: marked renders, DOMPurify removes everything that could act. Loaded with the first view that needs it. */
import { Marked, type Tokens } from 'marked';
import DOMPurify from 'dompurify';
import { codeHtml } from './highlight';

const marked = new Marked({ gfm: true, breaks: false, async: false });

const escape = (s: string) => s.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!);

marked.use({
  renderer: {
    // Pictures from elsewhere would tell that site who reads: they become links.
    image({ href, text }: Tokens.Image): string {
      return `<a href="${escape(href)}">${escape(text || href)}</a>`;
    },
    code({ text, lang }: Tokens.Code): string {
      return `<pre><code class="hljs">${codeHtml(text, (lang ?? '').trim().split(/\s/, 1)[0]!.toLowerCase())}</code></pre>`;
    },
    // Raw HTML in a message is shown as what it is: text.
    html({ text }: Tokens.HTML | Tokens.Tag): string {
      return escape(text);
    },
  },
});

const purify = DOMPurify(window);
// Classes are those of code in colours; nothing that was written can name one of the page's own.
purify.addHook('uponSanitizeAttribute', (_node, data) => {
  if (data.attrName === 'class' && !/^hljs(-[\w-]+)?( [\w-]+_)*$/.test(data.attrValue)) data.keepAttr = false;
});
purify.addHook('afterSanitizeAttributes', (node) => {
  if (node.tagName === 'A') {
    node.setAttribute('target', '_blank');
    node.setAttribute('rel', 'noopener noreferrer nofollow');
  }
  if (node.tagName === 'TABLE') node.setAttribute('tabindex', '0');
});

export function renderMarkdown(text: string): string {
  return purify.sanitize(marked.parse(text) as string, {
    ALLOWED_TAGS: ['p', 'br', 'hr', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'ul', 'ol', 'li', 'blockquote', 'pre', 'code', 'em', 'strong', 'del', 'a',
      'table', 'thead', 'tbody', 'tr', 'th', 'td', 'input', 'span'],
    ALLOWED_ATTR: ['href', 'start', 'type', 'checked', 'disabled', 'align', 'class'],
    // Applied to every attribute: a scheme must be one of these, anything without a scheme is fine.
    ALLOWED_URI_REGEXP: /^(?:(?:https?|mailto):|[^a-z]|[a-z+.-]+(?:[^a-z+.:-]|$))/i,
  });
}
