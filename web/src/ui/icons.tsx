/** Icons: Lucide's outlines (ISC licence), only those that the page uses. */
import {
  Activity, AppWindow, ArrowDown, ArrowUp, Check, ChevronRight, CircleAlert, CircleCheck, CircleStop, Clock, Coins, Copy, Download, Ellipsis, Eye, EyeOff, File, FileChartColumn, FileCode,
  FileImage, FileJson, FileSpreadsheet, FileText, Files, FlaskConical, Hand, Info, Keyboard, Link, LogOut, Maximize, MessageSquare, Menu as MenuIcon, Monitor, MonitorOff, Moon, MousePointerClick, Paperclip,
  Pencil, Play, Plus, RefreshCw, Repeat, Search, SearchX, Ship, Sparkles, Square, Sun, SunMoon, Terminal, Trash2, TriangleAlert, Plug, Settings, Unplug, Upload, Wrench, X, Camera, Hash, Minimize, ChevronDown, Pause, GitFork, OctagonPause, Gauge, Bot, ChartColumn, Server, ListTree, FolderOpen, Folder, Command, SlidersHorizontal, ArrowLeft, Shield, Globe,
} from 'lucide';
import { h } from 'preact';

type Node = [string, Record<string, string | number>][];

const set = {
  activity: Activity, window: AppWindow, down: ArrowDown, up: ArrowUp, check: Check, chevron: ChevronRight, chevronDown: ChevronDown, alert: CircleAlert, good: CircleCheck, stop: CircleStop, clock: Clock,
  coins: Coins, copy: Copy, download: Download, more: Ellipsis, eye: Eye, eyeOff: EyeOff, file: File, fileChart: FileChartColumn, fileCode: FileCode, fileImage: FileImage, fileJson: FileJson,
  fileSheet: FileSpreadsheet, fileText: FileText, files: Files, flask: FlaskConical, hand: Hand, info: Info, keyboard: Keyboard, link: Link, logOut: LogOut, maximize: Maximize, minimize: Minimize,
  message: MessageSquare, menu: MenuIcon, monitor: Monitor, monitorOff: MonitorOff, moon: Moon, pointer: MousePointerClick, clip: Paperclip, pencil: Pencil, play: Play, plus: Plus, refresh: RefreshCw,
  repeat: Repeat, search: Search, searchX: SearchX, ship: Ship, sparkles: Sparkles, square: Square, sun: Sun, sunMoon: SunMoon, terminal: Terminal, trash: Trash2, warn: TriangleAlert, plug: Plug, settings: Settings, unplug: Unplug,
  upload: Upload, wrench: Wrench, x: X, camera: Camera, hash: Hash,
  pause: Pause, fork: GitFork, interrupt: OctagonPause, gauge: Gauge, bot: Bot, chart: ChartColumn, server: Server, tree: ListTree, folder: Folder, folderOpen: FolderOpen, command: Command, sliders: SlidersHorizontal,
  back: ArrowLeft, shield: Shield, globe: Globe,
} as const;

export type IconName = keyof typeof set;

export function Icon({ name, size = 16, class: cls }: { name: IconName; size?: number; class?: string }) {
  return (
    <svg class={`icon ${cls ?? ''}`} width={size} height={size} viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width={size > 20 ? 1.6 : 1.9} stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
      {(set[name] as unknown as Node).map(([tag, attrs]) => h(tag, attrs))}
    </svg>
  );
}

/** The mark: a dock seen from above with a vessel in it. */
export function Mark({ size = 24 }: { size?: number }) {
  return (
    <svg class="icon" width={size} height={size} viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" fill="#12262b" />
      <path d="M7 8v12.5A4.5 4.5 0 0 0 11.5 25h9a4.5 4.5 0 0 0 4.5-4.5V8" fill="none" stroke="#e9f3f1" stroke-width="3" stroke-linecap="round" />
      <rect x="12" y="8.5" width="8" height="10.5" rx="2" fill="#f0693c" />
    </svg>
  );
}
