/** Saves what is at a path of ours as a file. */
import { toastError } from '../state/toasts';
import { withTicket } from './api';

export async function download(path: string, name: string): Promise<void> {
  try {
    const a = document.createElement('a');
    a.href = await withTicket(path);
    a.download = name;
    a.click();
  } catch (e) {
    toastError(e);
  }
}
