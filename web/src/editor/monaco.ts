/**
 * The editor of prompts: Monaco with Markdown, the theme of the page and nothing else. A bundle of its own, with its own
 * styles and worker, that is loaded when the first prompt is edited (lib/editor.ts).
 */
import 'monaco-editor/features/find/register.js';
import 'monaco-editor/features/multicursor/register.js';
import 'monaco-editor/features/wordHighlighter/register.js';
import 'monaco-editor/features/linesOperations/register.js';
import 'monaco-editor/features/wordOperations/register.js';
import 'monaco-editor/features/bracketMatching/register.js';
import 'monaco-editor/features/clipboard/register.js';
import 'monaco-editor/features/folding/register.js';
import 'monaco-editor/languages/definitions/markdown/register.js';
import * as monaco from 'monaco-editor/editor/editor.api.js';

export interface Prompt { set(text: string): void; dispose(): void }

const hex = (name: string): string => {
  // Monaco wants #rrggbb; the tokens are light-dark() pairs: the browser resolves them.
  const probe = document.createElement('i');
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color.match(/[\d.]+/g) ?? ['0', '0', '0'];
  probe.remove();
  return `#${found.slice(0, 3).map((n) => Math.round(Number(n)).toString(16).padStart(2, '0')).join('')}`;
};

function paint(): void {
  const [r] = hex('--surface').slice(1).match(/../g)!;
  const rule = (token: string, name: string, fontStyle = '') => ({ token, foreground: hex(name).slice(1), fontStyle });
  monaco.editor.defineTheme('berth', {
    base: parseInt(r!, 16) < 128 ? 'vs-dark' : 'vs', inherit: true,
    rules: [rule('', '--ink'), rule('keyword.md', '--accent', 'bold'), rule('string.link.md', '--info'), rule('variable.md', '--good'), rule('variable.source.md', '--good'), rule('string.md', '--info'), rule('comment', '--ink-3')],
    colors: {
      'editor.background': hex('--surface'), 'editor.foreground': hex('--ink'), 'editorLineNumber.foreground': hex('--ink-3'), 'editorLineNumber.activeForeground': hex('--ink'), 'editorCursor.foreground': hex('--accent'),
      'editor.lineHighlightBackground': hex('--sunken'), 'editor.lineHighlightBorder': hex('--sunken'), 'editor.selectionBackground': hex('--accent-line'), 'editorWidget.background': hex('--raised'), 'editorWidget.border': hex('--line'),
      'input.background': hex('--surface'), 'input.foreground': hex('--ink'), 'scrollbarSlider.background': `${hex('--line-strong')}88`, focusBorder: hex('--focus'),
    },
  });
  monaco.editor.setTheme('berth');
}

export function open(host: HTMLElement, text: string, label: string, worker: string, changed: (text: string) => void): Prompt {
  (globalThis as { MonacoEnvironment?: unknown }).MonacoEnvironment = { getWorker: () => new Worker(worker, { type: 'module', name: 'editor' }) };
  paint();
  const editor = monaco.editor.create(host, {
    value: text, language: 'markdown', theme: 'berth', ariaLabel: label, wordWrap: 'on', minimap: { enabled: false }, lineNumbersMinChars: 3, lineDecorationsWidth: 8, padding: { top: 10, bottom: 10 }, fontSize: 13, lineHeight: 20,
    fontFamily: getComputedStyle(document.documentElement).getPropertyValue('--mono'), scrollBeyondLastLine: false, automaticLayout: true, overviewRulerLanes: 0, hideCursorInOverviewRuler: true, renderLineHighlight: 'line',
    unicodeHighlight: { ambiguousCharacters: false, invisibleCharacters: true }, links: false, contextmenu: false, quickSuggestions: false, suggestOnTriggerCharacters: false, wordBasedSuggestions: 'off', occurrencesHighlight: 'off',
    tabFocusMode: true, scrollbar: { alwaysConsumeMouseWheel: false, verticalScrollbarSize: 9 }, fixedOverflowWidgets: true, editContext: false,
  });
  void document.fonts?.ready.then(() => monaco.editor.remeasureFonts());
  editor.onDidChangeModelContent(() => changed(editor.getValue()));
  const media = matchMedia('(prefers-color-scheme: dark)');
  const themed = new MutationObserver(paint);
  themed.observe(document.documentElement, { attributes: true, attributeFilter: ['data-theme'] });
  media.addEventListener('change', paint);
  return {
    set: (value) => {
      if (editor.getValue() !== value) editor.setValue(value);
    },
    dispose: () => {
      themed.disconnect();
      media.removeEventListener('change', paint);
      editor.getModel()?.dispose();
      editor.dispose();
    },
  };
}
