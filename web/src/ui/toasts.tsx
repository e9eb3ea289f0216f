/** Shows the toasts in the top layer, above any dialog. */
import { useEffect, useRef } from 'preact/hooks';
import { dismiss, toasts } from '../state/toasts';
import { texts } from '../texts';
import { IconButton } from './controls';
import { Icon } from './icons';

export function Toasts() {
  const ref = useRef<HTMLDivElement>(null);
  const list = toasts.value;
  const newest = list.at(-1)?.id ?? 0;
  useEffect(() => {
    const el = ref.current!;
    // Shown anew for each toast: what entered the top layer last lies on top.
    if (el.matches(':popover-open')) el.hidePopover();
    if (newest > 0) el.showPopover();
  }, [newest]);
  return (
    <div ref={ref} popover="manual" class="toasts" role="status" aria-live="polite">
      {list.map((t) => (
        <div key={t.id} class={`toast ${t.tone}`}>
          <Icon name={t.tone === 'error' ? 'alert' : t.tone === 'good' ? 'good' : 'info'} size={17} />
          <div>
            <strong>{t.title}</strong>
            {t.text && <p>{t.text}</p>}
          </div>
          <IconButton icon="x" label={texts.common.dismiss} small onClick={() => dismiss(t.id)} />
        </div>
      ))}
    </div>
  );
}
