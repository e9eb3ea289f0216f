/** Markdown on the page: safe HTML, code in colours, each block of code with a button that copies it. */
import { useEffect, useMemo, useRef } from 'preact/hooks';
import { painter } from '../lib/highlight';
import { renderMarkdown } from '../lib/markdown';
import { texts } from '../texts';
import { copyText } from './controls';

function addCopy(pre: HTMLElement): void {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'copy-code';
  button.textContent = texts.common.copy;
  button.addEventListener('click', () => void copyText(pre.querySelector('code')?.textContent?.replace(/\n$/, '') ?? ''));
  pre.append(button);
}

export function Prose({ text, streaming }: { text: string; streaming?: boolean }) {
  const box = useRef<HTMLDivElement>(null);
  const colours = painter.value;
  const html = useMemo(() => renderMarkdown(text), [text, colours]);
  useEffect(() => {
    if (!streaming) box.current?.querySelectorAll('pre').forEach((pre) => pre.querySelector('button') ?? addCopy(pre));
  }, [html, streaming]);
  return <div ref={box} class={`prose ${streaming ? 'caret' : ''}`} dangerouslySetInnerHTML={{ __html: html }} />;
}
