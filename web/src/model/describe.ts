/** What a tool call did, in a few words, with the point it was done at. Pure. */
import { texts } from '../texts';

export type ToolFamily = 'computer' | 'bash' | 'edit' | 'document' | 'code' | 'ask' | 'session' | 'report' | 'mcp' | 'other';
export interface Point { x: number; y: number }

export interface Described {
  family: ToolFamily;
  title: string;
  /** The action of the computer tool, or the command of the edit tool. */
  action: string;
  point: Point | null;
  from: Point | null;
}

const COMPUTER = new Set([
  'key', 'hold_key', 'type', 'cursor_position', 'mouse_move', 'left_mouse_down', 'left_mouse_up', 'left_click', 'right_click', 'middle_click', 'double_click', 'triple_click',
  'left_click_drag', 'scroll', 'wait', 'screenshot', 'zoom',
]);

const str = (v: unknown): string => (typeof v === 'string' ? v : '');
const num = (v: unknown): number => (typeof v === 'number' && Number.isFinite(v) ? v : 0);

function point(v: unknown): Point | null {
  return Array.isArray(v) && typeof v[0] === 'number' && typeof v[1] === 'number' ? { x: v[0], y: v[1] } : null;
}

export const baseName = (path: string): string => path.replace(/\/+$/, '').split('/').pop() || path;
const clip = (s: string, n: number): string => (s.length > n ? s.slice(0, n - 1) + '…' : s);
const at = (p: Point): string => `${p.x}, ${p.y}`;

/** "ctrl+shift+t" as people write it. */
export function keyName(keys: string): string {
  const names: Record<string, string> = { return: 'Enter', kp_enter: 'Enter', escape: 'Esc', prior: 'Page Up', page_up: 'Page Up', next: 'Page Down', page_down: 'Page Down', backspace: 'Backspace', space: 'Space', plus: '+' };
  // "ctrl++" is Ctrl and the plus key.
  return keys
    .replace(/\+\+$|^\+$/, (m) => (m === '+' ? 'plus' : '+plus'))
    .split('+')
    .filter((k) => k !== '')
    .map((k) => names[k.toLowerCase()] ?? (k.length === 1 ? k.toUpperCase() : k[0]!.toUpperCase() + k.slice(1)))
    .join(' + ');
}

function computer(action: string, input: Record<string, unknown>): string {
  const t = texts.tools.computer;
  const p = point(input.coordinate);
  const held = str(input.text);
  switch (action) {
    case 'screenshot': return t.screenshot;
    case 'cursor_position': return t.cursor;
    case 'left_click':
    case 'right_click':
    case 'middle_click':
    case 'double_click':
    case 'triple_click':
    case 'left_mouse_down':
    case 'left_mouse_up':
      return (p ? t.click(t[action], at(p)) : t.clickHere(t[action])) + (held ? t.holding(keyName(held)) : '');
    case 'mouse_move': return t.move(p ? at(p) : '');
    case 'left_click_drag': {
      const from = point(input.start_coordinate);
      return t.drag(from ? at(from) : '', p ? at(p) : '');
    }
    case 'type': return t.type(clip(held.replace(/\s+/g, ' '), 60));
    case 'key': return t.key(keyName(held));
    case 'hold_key': return t.hold(keyName(held), num(input.duration));
    case 'scroll': {
      const dir = str(input.scroll_direction);
      return p ? t.scrollAt(dir, num(input.scroll_amount), at(p)) : t.scroll(dir, num(input.scroll_amount));
    }
    case 'wait': return t.wait(num(input.duration));
    case 'zoom': return t.zoom;
    default: return t.other(action);
  }
}

export function describe(name: string, input: Record<string, unknown>, running = false): Described {
  const t = texts.tools;
  const made = (family: ToolFamily, title: string, action = ''): Described => ({ family, title, action, point: null, from: null });
  if (name === 'computer' || COMPUTER.has(name)) {
    const action = name === 'computer' ? str(input.action) : name;
    return { family: 'computer', action, title: computer(action, input), point: point(input.coordinate), from: point(input.start_coordinate) };
  }
  if (name === 'bash') return made('bash', input.restart === true ? t.restart : running ? t.bashRunning : t.bash);
  if (name.startsWith('str_replace') || name === 'text_editor') {
    const file = baseName(str(input.path));
    const command = str(input.command);
    const title = command === 'view' ? t.view(file) : command === 'create' ? t.create(file) : command === 'insert' ? t.insert(file) : t.edit(file);
    return made('edit', title, command);
  }
  if (name === 'document_put') return made('document', t.put(str(input.filename) || baseName(str(input.path))), 'put');
  if (name === 'document_search') return made('other', t.find);
  if (name === 'document_list') return made('other', t.listed);
  if (name === 'document_get') return made('other', t.got);
  if (name === 'execute_code') return made('code', (running ? t.coding : t.code)(str(input.language) || 'code'));
  if (name === 'ask_human') return made('ask', running ? t.asking : t.ask);
  if (name === 'session_start') return made('session', t.delegate(clip(str(input.title) || t.delegateHint, 60)), 'start');
  if (name === 'session_wait') return made('session', t.waitSession, 'wait');
  if (name === 'done') return made('report', t.report);
  const mcp = /^mcp__([^_]+(?:_[^_]+)*)__(.+)$/.exec(name);
  if (mcp) return made('mcp', t.mcp(mcp[1]!, mcp[2]!));
  return made('other', t.other(name));
}
