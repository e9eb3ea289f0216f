/** Code in the colours of its language. */
import { useMemo } from 'preact/hooks';
import { codeHtml, painter } from '../lib/highlight';

export function Code({ text, language }: { text: string; language: string }) {
  const has = painter.value;
  const html = useMemo(() => codeHtml(text, language), [text, language, has]);
  return <code class="hljs" dangerouslySetInnerHTML={{ __html: html }} />;
}
