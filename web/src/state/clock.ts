/** The time for relative dates, moved every few seconds so that "2 min ago" stays true. */
import { signal } from '@preact/signals';

export const now = signal(Date.now());
setInterval(() => {
  if (document.visibilityState === 'visible') now.value = Date.now();
}, 5000);
