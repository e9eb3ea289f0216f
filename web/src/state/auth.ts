/** Signed in or not. */
import { signal } from '@preact/signals';
import { getJson, loadToken, storeToken, whenUnauthorized } from '../lib/api';

export const signedIn = signal(loadToken() !== null);
/** Set when a token that worked (or was given by a link) is refused. */
export const refused = signal(false);

whenUnauthorized(() => {
  storeToken(null);
  refused.value = true;
  signedIn.value = false;
});

// The printed link, opened in a tab that shows the page already, changes the fragment only.
addEventListener('hashchange', () => {
  if (!new URLSearchParams(location.hash.slice(1)).has('token')) return;
  loadToken();
  if (signedIn.value) location.reload();
  else signedIn.value = true;
});

/** Tries a token; resolves when it is good, throws the ApiError otherwise. */
export async function signIn(token: string): Promise<void> {
  storeToken(token);
  try {
    await getJson('/sessions?limit=1', { quiet: true });
  } catch (e) {
    storeToken(null);
    throw e;
  }
  refused.value = false;
  signedIn.value = true;
}

export function signOut(): void {
  storeToken(null);
  refused.value = false;
  signedIn.value = false;
}
