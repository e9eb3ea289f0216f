/** Shapes of the API, as the page uses them (api.md). Fields may be added by the server at any time. */

export type SessionStatus =
  | 'queued' | 'starting' | 'running' | 'idle' | 'waiting' | 'paused' | 'finished' | 'stopped' | 'failed';

export interface Usage {
  input_tokens?: number;
  output_tokens?: number;
  cache_read_tokens?: number;
  cache_write_tokens?: number;
  cost_usd?: number;
  turns?: number;
  seconds?: number;
}

export interface Slot {
  kind?: string;
  image?: string;
  width?: number;
  height?: number;
  state?: string;
  controller?: string | null;
  control?: SlotControl | null;
}

/** Who took over the desktop. */
export interface SlotControl { person: string; viewer: string | null; since: string; secret: boolean }

export interface Session {
  session_id: string;
  session_name?: string | null;
  status: SessionStatus;
  created_at: string;
  modified_at: string;
  project_dir?: string | null;
  agent_name?: string | null;
  kind?: string;
  model?: string | null;
  metadata?: Record<string, unknown>;
  last_seq?: number;
  parent_session_id?: string | null;
  worker_id?: string | null;
  slot?: Slot | null;
  usage?: Usage | null;
  budget?: Record<string, number> | null;
  /** What a waiting session waits for. */
  waiting?: { for: string; question?: string | null } | null;
  /** What the agent asks while it waits for an answer. */
  question?: { question?: string; choices?: string[] } | null;
  pending_approvals?: number;
  error?: string | { code?: string; message?: string } | null;
  vnc_url?: string | null;
  stream_url?: string | null;
}

export interface ImageBlock {
  type: 'image';
  media_type?: string;
  digest?: string;
  url?: string;
  width?: number;
  height?: number;
  source?: { type?: string; media_type?: string; data?: string };
}

export type Block =
  | { type: 'text'; text: string }
  | { type: 'thinking'; thinking: string }
  | { type: 'tool_use'; id: string; name: string; input: Record<string, unknown> }
  | { type: 'tool_result'; tool_use_id: string; content?: string | Block[]; is_error?: boolean }
  | ImageBlock;

/** One event, or the same event as an update of a session's stream (then with `type`). */
export interface BerthEvent {
  id: number | string;
  session_id: string;
  seq: number;
  event_type: string;
  timestamp: string;
  type?: string;
  [field: string]: unknown;
}

/** A piece of what the model is saying. */
export interface ModelDelta { type: 'delta'; session_id: string; turn: number; block: number; kind: 'text' | 'thinking' | 'tool_input'; text: string }
/** A piece of what a running command prints. */
export interface ToolDelta { type: 'delta'; session_id: string; kind: 'tool_output'; tool_call_id: string; stream: 'stdout' | 'stderr'; text: string }
export type Delta = ModelDelta | ToolDelta;

export interface Doc {
  id: string;
  filename: string;
  content_type: string;
  size_bytes: number;
  created_at: string;
  updated_at: string;
  tags: string[];
  metadata?: Record<string, unknown> & { description?: string };
  url?: string;
  checksum?: string;
  version?: number;
  text_status?: 'queued' | 'reading' | 'ready' | 'none' | 'failed';
  text_error?: string | null;
  hook_error?: string | null;
}

/** A passage that a search found. `highlight` is escaped HTML with <mark>. */
export interface Found { id: string; filename: string; content_type: string; page: number | null; passage: string | null; highlight: string; score: number; document: Doc }
export interface Source { id: string; filename: string; page: number | null; passage: string; score: number; cited: boolean }
export interface Answer { answer: string; found: boolean; sources: Source[]; model?: string; hook_error?: string }
export interface Version { version: number; checksum: string; size_bytes: number; content_type: string; created_at: string; url: string }
export interface Relation { kind: string; document_id: string; filename: string }

export interface TagCount { name: string; count: number }

export interface DaemonStatus { name: string; version?: string; ok?: boolean; [field: string]: unknown }

/** What free workers keep ready, by the setting pool_warm. */
export interface WarmTarget { kind: string; image: string | null; target: number; ready: number; making: number; why: string | null }

export interface Status { daemons?: DaemonStatus[]; warm?: WarmTarget[]; demo?: boolean; model?: string | null; [field: string]: unknown }

export interface Ready { ready?: boolean; database?: unknown; coordinator?: unknown; workers?: unknown }

export interface Scenario {
  title: string;
  label: string;
  session_name: string;
  kind: string;
  message: string;
  files: { url: string; path: string; filename: string; tags: string[] | string }[];
}

export const LIVE: readonly SessionStatus[] = ['queued', 'starting', 'running', 'idle', 'waiting', 'paused'];
export const WORKING: readonly SessionStatus[] = ['queued', 'starting', 'running'];

export const isLive = (s: SessionStatus): boolean => LIVE.includes(s);
export const isWorking = (s: SessionStatus): boolean => WORKING.includes(s);
