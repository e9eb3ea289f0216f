/** Monaco's worker: what would hold up the page (links, differences of long texts) is computed here. */
import 'monaco-editor/editor/editor.worker.js';
