/** A screenshot as large as the window, with the point of the click, and the ones before and after it. */
import { signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import type { Point } from '../model/describe';
import type { ImageBlock } from '../types';
import { texts } from '../texts';
import { IconButton } from './controls';
import { Picture } from './picture';

export interface Shot { image: ImageBlock; title: string; point: Point | null; from: Point | null }

export const lightbox = signal<{ shots: Shot[]; index: number } | null>(null);

export function Lightbox() {
  const ref = useRef<HTMLDialogElement>(null);
  const box = lightbox.value;
  useEffect(() => {
    if (box && !ref.current!.open) ref.current!.showModal();
    if (!box && ref.current!.open) ref.current!.close();
  }, [box]);
  const shot = box?.shots[box.index];
  const step = (by: number) => {
    if (!box) return;
    const index = box.index + by;
    if (index >= 0 && index < box.shots.length) lightbox.value = { ...box, index };
  };
  const close = () => {
    lightbox.value = null;
  };
  return (
    <dialog
      ref={ref}
      class="lightbox"
      aria-label={texts.lightbox.label}
      onCancel={(e) => {
        e.preventDefault();
        close();
      }}
      onKeyDown={(e) => {
        if (e.key === 'ArrowLeft') step(-1);
        if (e.key === 'ArrowRight') step(1);
      }}
    >
      {box && shot && (
        <>
          <div class="lightbox-bar">
            <b class="cut">{shot.title}</b>
            <span class="num">{texts.lightbox.of(box.index + 1, box.shots.length)}</span>
            <span class="grow" />
            <IconButton icon="up" label={texts.lightbox.prev} onClick={() => step(-1)} disabled={box.index === 0} />
            <IconButton icon="down" label={texts.lightbox.next} onClick={() => step(1)} disabled={box.index === box.shots.length - 1} />
            <IconButton icon="x" label={texts.common.close} onClick={close} />
          </div>
          <div class="lightbox-stage" onClick={(e) => e.target === e.currentTarget && close()}>
            <div class="lightbox-pic" style={{ '--ratio': String((shot.image.width ?? 4) / (shot.image.height ?? 3)) }}>
              <Picture image={shot.image} alt={texts.tools.screenshotAlt(shot.title)} point={shot.point} from={shot.from} eager />
            </div>
          </div>
        </>
      )}
    </dialog>
  );
}
