/** A line diff for small edits: longest common lines by the plain table, with a limit above which both sides are shown whole. */

export interface DiffLine { sign: ' ' | '+' | '-'; text: string }

const CELLS = 400_000;

export function diffLines(before: string, after: string): DiffLine[] {
  const a = before === '' ? [] : before.split('\n');
  const b = after === '' ? [] : after.split('\n');
  if (a.length * b.length > CELLS) {
    return [...a.map((text): DiffLine => ({ sign: '-', text })), ...b.map((text): DiffLine => ({ sign: '+', text }))];
  }
  const w = b.length + 1;
  const t = new Uint32Array((a.length + 1) * w);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      t[i * w + j] = a[i] === b[j] ? t[(i + 1) * w + j + 1]! + 1 : Math.max(t[(i + 1) * w + j]!, t[i * w + j + 1]!);
    }
  }
  const out: DiffLine[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    if (a[i] === b[j]) {
      out.push({ sign: ' ', text: a[i]! });
      i += 1;
      j += 1;
    } else if (t[(i + 1) * w + j]! >= t[i * w + j + 1]!) out.push({ sign: '-', text: a[i++]! });
    else out.push({ sign: '+', text: b[j++]! });
  }
  while (i < a.length) out.push({ sign: '-', text: a[i++]! });
  while (j < b.length) out.push({ sign: '+', text: b[j++]! });
  return out;
}
