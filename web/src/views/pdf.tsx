/** A PDF drawn page by page by pdf.js, which is loaded when the first one is shown. It draws on canvases only: no text layer, no forms, no scripts. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { texts } from '../texts';

const PAGES_FIRST = 10;
const PIXELS_MOST = 1600;

async function library() {
  // The worker's code in this realm: a worker's address would have to be known to the build.
  const [pdf, worker] = await Promise.all([import('pdfjs-dist/legacy/build/pdf.min.mjs'), import('pdfjs-dist/legacy/build/pdf.worker.min.mjs')]);
  (globalThis as { pdfjsWorker?: unknown }).pdfjsWorker = worker;
  return pdf;
}

export function Pdf({ data, name, onFail }: { data: ArrayBuffer; name: string; onFail: () => void }) {
  const t = texts.documents;
  const box = useRef<HTMLDivElement>(null);
  const [pages, setPages] = useState(0);
  const [wanted, setWanted] = useState(PAGES_FIRST);
  const [drawn, setDrawn] = useState(0);
  useEffect(() => {
    let gone = false;
    let end: (() => void) | null = null;
    const draw = async () => {
      const pdf = await library();
      const task = pdf.getDocument({ data: data.slice(0), enableXfa: false, useSystemFonts: true, disableFontFace: false });
      end = () => void task.destroy();
      const doc = await task.promise;
      if (gone) return;
      setPages(doc.numPages);
      box.current?.replaceChildren();
      for (let n = 1; n <= Math.min(doc.numPages, wanted) && !gone; n++) {
        const page = await doc.getPage(n);
        const plain = page.getViewport({ scale: 1 });
        const room = (box.current?.clientWidth || 600) * Math.min(devicePixelRatio, 2);
        const viewport = page.getViewport({ scale: Math.min(room, PIXELS_MOST) / plain.width });
        const canvas = document.createElement('canvas');
        canvas.width = Math.floor(viewport.width);
        canvas.height = Math.min(Math.floor(viewport.height), 4 * PIXELS_MOST);
        canvas.setAttribute('role', 'img');
        canvas.setAttribute('aria-label', t.pdfPage(name, n));
        await page.render({ canvas, viewport }).promise;
        if (gone) return;
        box.current?.append(canvas);
        setDrawn(n);
      }
    };
    draw().catch(() => !gone && onFail());
    return () => {
      gone = true;
      end?.();
    };
  }, [data, wanted]);
  return (
    <>
      <div class="pdf" ref={box} data-drawn={drawn} />
      {pages > wanted && drawn >= wanted && <button type="button" class="btn show-more" onClick={() => setWanted(wanted + PAGES_FIRST)}>{t.morePages(pages - wanted)}</button>}
    </>
  );
}
