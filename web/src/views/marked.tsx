/** What a search found: escaped HTML with <mark>, drawn as text; nothing in it can act. */
const ENTITIES: Record<string, string> = { '&lt;': '<', '&gt;': '>', '&quot;': '"', '&#39;': "'", '&amp;': '&' };

export const unescapeHtml = (s: string): string => s.replace(/&(?:lt|gt|quot|amp|#39);/g, (e) => ENTITIES[e] ?? e);

export function Marked({ html }: { html: string }) {
  // Empty lines would take the room of words.
  return <>{html.replace(/\s*\n\s*/g, '\n').split(/(<mark>.*?<\/mark>)/s).map((part, i) => (part.startsWith('<mark>') ? <mark key={i}>{unescapeHtml(part.slice(6, -7))}</mark> : unescapeHtml(part)))}</>;
}
