/** The bar of narrow screens: menu, what is shown, its state. */
import { route } from '../lib/router';
import { link, sessions } from '../state/feed';
import { drawerOpen, newSessionOpen } from '../state/ui';
import { texts } from '../texts';
import { IconButton, Status } from '../ui/controls';
import { SessionActions } from './session-actions';

export function TopBar() {
  const r = route.value;
  const s = r.name === 'session' ? sessions.value.get(r.id) : undefined;
  const title = s ? s.session_name || texts.sessions.unnamed : r.name === 'settings' ? texts.people.title : r.name in texts ? (texts as unknown as Record<string, { title?: string }>)[r.name]?.title ?? texts.product : texts.product;
  return (
    <header class="topbar">
      <IconButton icon="menu" label={texts.nav.open} onClick={() => (drawerOpen.value = true)} />
      <span class="title cut">{title}</span>
      {s ? (
        <>
          <Status status={s.status} />
          <SessionActions session={s} compact />
        </>
      ) : (
        <>
          <span class="light" data-link={link.value} title={texts.link.hint[link.value]}><i />{texts.link[link.value]}</span>
          {r.name === 'home' && <IconButton icon="plus" label={texts.sessions.new} onClick={() => (newSessionOpen.value = true)} />}
        </>
      )}
    </header>
  );
}
