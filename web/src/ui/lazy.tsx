/** A view that is loaded when it is first shown. */
import type { ComponentType } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { texts } from '../texts';
import { Blank, Spinner } from './controls';

export function lazy<P extends object>(load: () => Promise<ComponentType<P>>): ComponentType<P> {
  let known: ComponentType<P> | null = null;
  return function Lazy(props: P) {
    const [, again] = useState(0);
    const [failed, setFailed] = useState(false);
    useEffect(() => {
      if (known) return;
      load().then((c) => {
        known = c;
        again((n) => n + 1);
      }, () => setFailed(true));
    }, []);
    if (known) {
      const View = known;
      return <View {...props} />;
    }
    if (failed) {
      return (
        <Blank icon="unplug" title={texts.errors.boundary} text={texts.errors.unreachable}>
          <button type="button" class="btn" onClick={() => location.reload()}>{texts.errors.reload}</button>
        </Blank>
      );
    }
    return <div class="blank" role="status" aria-label={texts.common.loading}><Spinner /></div>;
  };
}
