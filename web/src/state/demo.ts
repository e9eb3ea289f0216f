/** The demo: its scenario is a file of the gateway; starting it takes the same calls as any session. */
import { signal } from '@preact/signals';
import { getJson, request } from '../lib/api';
import { go, paths } from '../lib/router';
import { texts } from '../texts';
import type { Scenario } from '../types';
import { uploadFile } from './documents';
import { createSession } from './feed';
import { toastError } from './toasts';

export const scenario = signal<Scenario | null>(null);
export const demoStep = signal<string | null>(null);

export async function loadScenario(): Promise<void> {
  try {
    scenario.value = await getJson<Scenario>('/demo/scenario.json', { quiet: true });
  } catch {
    scenario.value = null;
  }
}

export async function runDemo(): Promise<void> {
  if (demoStep.value !== null) return;
  demoStep.value = texts.demo.running;
  try {
    const s = await getJson<Scenario>('/demo/scenario.json');
    const files = [];
    for (const [i, f] of s.files.entries()) {
      demoStep.value = texts.demo.uploading(i + 1, s.files.length);
      const bytes = await (await request(f.url, { headers: { Accept: '*/*' } })).blob();
      const tags = typeof f.tags === 'string' ? f.tags.split(',').map((t) => t.trim()).filter(Boolean) : (f.tags ?? []);
      const doc = await uploadFile(bytes, f.filename, tags);
      files.push({ document_id: doc.id, path: f.path });
    }
    demoStep.value = texts.demo.running;
    const made = await createSession({ session_name: s.session_name, kind: s.kind, message: s.message, files });
    go(paths.session(made.session_id));
  } catch (e) {
    toastError(e);
  } finally {
    demoStep.value = null;
  }
}
