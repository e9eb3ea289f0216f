/** Loads the editor of prompts with its styles, once. */
import type { Prompt } from '../editor/monaco';

/** Addresses of the editor's own bundle, put in by build.mjs. */
declare const EDITOR: { script: string; styles: string; worker: string };
type Editor = typeof import('../editor/monaco');

let loading: Promise<Editor> | null = null;

function load(): Promise<Editor> {
  const styles = new Promise<void>((resolve, reject) => {
    const link = document.createElement('link');
    link.rel = 'stylesheet';
    link.href = EDITOR.styles;
    link.onload = () => resolve();
    link.onerror = () => reject(new Error(EDITOR.styles));
    document.head.append(link);
  });
  const script = EDITOR.script;
  return Promise.all([import(script) as Promise<Editor>, styles]).then(([m]) => m);
}

export async function openPrompt(host: HTMLElement, text: string, label: string, changed: (text: string) => void): Promise<Prompt> {
  loading ??= load().catch((e: unknown) => {
    loading = null;
    throw e;
  });
  return (await loading).open(host, text, label, EDITOR.worker, changed);
}
