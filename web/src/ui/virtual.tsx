/** A list of any length of which only what is in view is drawn. Rows have a height that is known (folded) or measured (open). */
import type { ComponentChildren } from 'preact';
import { useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';

const AROUND = 240;
/** Scrolling draws anew after that many pixels, not with each: what is drawn around the view is more. */
const STEP = 96;

export interface Reach { to: (index: number) => void; end: () => void }

export function VirtualList<T>(props: {
  items: T[]; keyOf: (item: T) => string | number; row: number; open: ReadonlySet<string | number>; draw: (item: T, isOpen: boolean) => ComponentChildren; label: string; class?: string;
  reach: { current: Reach | null }; follow: boolean; onLeft: () => void; onEnd: () => void;
}) {
  const { items, keyOf, row, open } = props;
  const box = useRef<HTMLDivElement>(null);
  const heights = useRef(new Map<string | number, number>());
  const [top, setTop] = useState(0);
  const [measured, again] = useState(0);
  const hand = useRef(-Infinity);
  // A row is drawn once and kept while it is in view: scrolling moves rows, it does not make them again.
  const drawn = useRef(new Map<string | number, { item: T; isOpen: boolean; draw: unknown; row: ComponentChildren }>());
  const rowOf = (item: T, k: string | number): ComponentChildren => {
    const isOpen = open.has(k);
    const kept = drawn.current.get(k);
    if (kept && kept.item === item && kept.isOpen === isOpen && kept.draw === props.draw) return kept.row;
    const made = props.draw(item, isOpen);
    drawn.current.set(k, { item, isOpen, draw: props.draw, row: made });
    return made;
  };
  const at = useMemo(() => {
    const a = new Float64Array(items.length + 1);
    for (let i = 0; i < items.length; i++) {
      const k = keyOf(items[i]!);
      a[i + 1] = a[i]! + (open.has(k) ? (heights.current.get(k) ?? row * 6) : row);
    }
    return a;
  }, [items, open, measured]);
  const find = (y: number): number => {
    let lo = 0;
    let hi = items.length;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (at[mid + 1]! <= y) lo = mid + 1;
      else hi = mid;
    }
    return lo;
  };
  const height = box.current?.clientHeight || 900;
  const first = find(Math.max(0, top - AROUND));
  const last = Math.min(items.length, find(top + height + AROUND) + 1);
  useLayoutEffect(() => {
    const b = box.current!;
    // Rows that were never drawn have a guessed height; what is above the view must not move it when it is known.
    let changed = false;
    if (drawn.current.size > 400) drawn.current.clear();
    for (const el of open.size > 0 ? b.querySelectorAll<HTMLElement>('[data-open="true"]') : []) {
      const k = items[Number(el.dataset.index)];
      if (k === undefined) continue;
      const h = el.offsetHeight;
      const old = heights.current.get(keyOf(k));
      if (old === h) continue;
      heights.current.set(keyOf(k), h);
      changed = true;
    }
    if (changed) again((n) => n + 1);
    if (props.follow) b.scrollTop = b.scrollHeight;
  });
  props.reach.current = { to: (i) => (box.current!.scrollTop = at[i] ?? 0), end: () => (box.current!.scrollTop = box.current!.scrollHeight) };
  const touched = () => {
    hand.current = performance.now();
  };
  return (
    <div
      class={`scroll ${props.class ?? ''}`} ref={box} role="list" tabIndex={0} aria-label={props.label} onWheel={touched} onTouchMove={touched} onKeyDown={touched} onPointerDown={touched}
      onScroll={(e) => {
        const b = e.currentTarget;
        setTop(Math.round(b.scrollTop / STEP) * STEP);
        const near = b.scrollHeight - b.scrollTop - b.clientHeight < row;
        if (near && !props.follow) props.onEnd();
        if (!near && props.follow && performance.now() - hand.current < 800) props.onLeft();
      }}
    >
      <div class="v-in" style={{ height: `${at[items.length]}px` }}>
        {items.slice(first, last).map((item, i) => {
          const k = keyOf(item);
          return <div key={k} class="v-row" role="listitem" data-index={first + i} data-open={open.has(k)} style={{ top: `${at[first + i]}px` }}>{rowOf(item, k)}</div>;
        })}
      </div>
    </div>
  );
}
