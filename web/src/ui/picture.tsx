/** A picture of an event: fetched with the token when it comes near the view, with its mark at the click point. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { imageUrl } from '../lib/images';
import type { Point } from '../model/describe';
import type { ImageBlock } from '../types';

function inline(image: ImageBlock): string | null {
  const s = image.source;
  if (s?.data && /^image\/(png|jpeg|webp|gif)$/.test(s.media_type ?? '')) return `data:${s.media_type};base64,${s.data}`;
  return null;
}

function Mark({ point, image, from }: { point: Point; image: ImageBlock; from?: boolean }) {
  if (!image.width || !image.height || point.x > image.width || point.y > image.height) return null;
  return <i class={`mark ${from ? 'from' : ''}`} style={{ left: `${(100 * point.x) / image.width}%`, top: `${(100 * point.y) / image.height}%` }} aria-hidden="true" />;
}

export function Picture(props: { image: ImageBlock; alt: string; point?: Point | null; from?: Point | null; eager?: boolean }) {
  const { image } = props;
  const ref = useRef<HTMLImageElement>(null);
  const [src, setSrc] = useState<string | null>(inline(image));
  useEffect(() => {
    const data = inline(image);
    setSrc(data);
    if (data || !image.url) return;
    let on = true;
    const fetchIt = () => imageUrl(image.url!).then((u) => on && setSrc(u), () => undefined);
    if (props.eager) {
      void fetchIt();
      return () => {
        on = false;
      };
    }
    const seen = new IntersectionObserver((e) => {
      if (!e.some((x) => x.isIntersecting)) return;
      seen.disconnect();
      void fetchIt();
    }, { rootMargin: '600px' });
    seen.observe(ref.current!);
    return () => {
      on = false;
      seen.disconnect();
    };
  }, [image.url]);
  return (
    <>
      <img ref={ref} src={src ?? undefined} alt={props.alt} width={image.width} height={image.height} draggable={false} />
      {src && props.from && <Mark point={props.from} image={image} from />}
      {src && props.point && <Mark point={props.point} image={image} />}
    </>
  );
}
