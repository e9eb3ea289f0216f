/** CSV as RFC 4180 has it (quotes, doubled quotes, line breaks inside), with the separator guessed; stops at `maxRows`. */

export function guessSeparator(text: string): string {
  const line = text.slice(0, 4096).split('\n', 1)[0] ?? '';
  let best = ',';
  let most = 0;
  for (const s of [',', ';', '\t', '|']) {
    const n = line.split(s).length - 1;
    if (n > most) {
      most = n;
      best = s;
    }
  }
  return best;
}

export function parseCsv(text: string, maxRows: number, separator = guessSeparator(text)): { rows: string[][]; more: boolean } {
  const rows: string[][] = [];
  let row: string[] = [];
  let cell = '';
  let quoted = false;
  let i = text.charCodeAt(0) === 0xfeff ? 1 : 0;
  const endRow = () => {
    row.push(cell);
    cell = '';
    if (row.length > 1 || row[0] !== '') rows.push(row);
    row = [];
  };
  for (; i < text.length; i++) {
    const c = text[i]!;
    if (quoted) {
      if (c !== '"') cell += c;
      else if (text[i + 1] === '"') {
        cell += '"';
        i += 1;
      } else quoted = false;
    } else if (c === '"' && cell === '') quoted = true;
    else if (c === separator) {
      row.push(cell);
      cell = '';
    } else if (c === '\n') {
      endRow();
      if (rows.length >= maxRows) return { rows, more: i < text.length - 1 };
    } else if (c !== '\r') cell += c;
  }
  if (cell !== '' || row.length > 0) endRow();
  return { rows, more: false };
}
