/** What kind of file a document is, by its media type, else by its name. Pure. */

export type FileKind = 'image' | 'markdown' | 'json' | 'csv' | 'markup' | 'pdf' | 'office' | 'text' | 'none';

const BY_NAME: Record<string, FileKind> = {
  html: 'markup', htm: 'markup', svg: 'markup', xml: 'markup', xhtml: 'markup', md: 'markdown', markdown: 'markdown', json: 'json', csv: 'csv', tsv: 'csv',
  pdf: 'pdf', docx: 'office', pptx: 'office', xlsx: 'office', odt: 'office', ods: 'office', odp: 'office', rtf: 'office', epub: 'office',
  png: 'image', jpg: 'image', jpeg: 'image', gif: 'image', webp: 'image', avif: 'image',
};
const TEXT = new Set(['py', 'js', 'ts', 'sh', 'c', 'h', 'sql', 'toml', 'yaml', 'yml', 'ini', 'log', 'txt', 'css', 'conf', 'rs', 'go', 'java', 'rb', 'diff', 'patch']);
const IMAGE: Record<string, string> = { jpg: 'image/jpeg', jpeg: 'image/jpeg', png: 'image/png', gif: 'image/gif', webp: 'image/webp', avif: 'image/avif' };

export const extension = (filename: string): string => /\.([a-z0-9]+)$/i.exec(filename)?.[1]?.toLowerCase() ?? '';
const plainType = (contentType: string): string => contentType.split(';')[0]!.trim().toLowerCase();

export function fileKind(d: { content_type: string; filename: string }): FileKind {
  const type = plainType(d.content_type);
  const named = BY_NAME[extension(d.filename)];
  if (type === 'application/pdf') return 'pdf';
  if (/officedocument|opendocument|application\/(rtf|epub)|text\/rtf/.test(type)) return 'office';
  // What a browser could run is never anything but text, whichever of the two says so.
  if (named === 'markup' || type === 'text/html' || type.includes('svg') || type.includes('xml')) return 'markup';
  if (/^image\/(png|jpeg|gif|webp|avif)$/.test(type)) return 'image';
  if (type === 'text/markdown') return 'markdown';
  if (type.includes('json')) return 'json';
  if (type.includes('csv') || type.includes('tab-separated')) return 'csv';
  if (type === 'application/octet-stream' || type === '' || type === 'text/plain') {
    if (named && (named !== 'image' || type !== 'text/plain')) return named;
    if (TEXT.has(extension(d.filename))) return 'text';
  }
  return type.startsWith('text/') ? 'text' : 'none';
}

/** The media type a picture is shown with: one of the list, never what the document claims. */
export const imageType = (d: { content_type: string; filename: string }): string =>
  /^image\/(png|jpeg|gif|webp|avif)$/.test(plainType(d.content_type)) ? plainType(d.content_type) : (IMAGE[extension(d.filename)] ?? 'image/png');

/** Names of languages that are not what the file's name ends with. */
const LANGUAGE: Record<string, string> = { py: 'python', js: 'javascript', mjs: 'javascript', cjs: 'javascript', jsx: 'javascript', ts: 'typescript', tsx: 'typescript', rb: 'ruby', rs: 'rust', h: 'c', cc: 'cpp', hpp: 'cpp', yml: 'yaml', patch: 'diff', md: '', txt: '', csv: '', log: '', mk: 'makefile' };
const BARE: Record<string, string> = { dockerfile: 'dockerfile', makefile: 'makefile' };

/** The language of a file's text, by its name; '' where it is none. */
export function languageOf(filename: string): string {
  const end = extension(filename);
  return end === '' ? (BARE[filename.split('/').at(-1)!.toLowerCase()] ?? '') : (LANGUAGE[end] ?? end);
}
