/** The theme: the system's, unless a person chose one. */
import { effect, signal } from '@preact/signals';

export type Theme = 'system' | 'light' | 'dark';

function stored(): Theme {
  try {
    const t = localStorage.getItem('berth.theme');
    return t === 'dark' || t === 'light' ? t : 'system';
  } catch {
    return 'system';
  }
}

export const theme = signal<Theme>(stored());

effect(() => {
  const t = theme.value;
  if (t === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = t;
  try {
    if (t === 'system') localStorage.removeItem('berth.theme');
    else localStorage.setItem('berth.theme', t);
  } catch {
    // Storage switched off: the choice lasts as long as the page.
  }
});
