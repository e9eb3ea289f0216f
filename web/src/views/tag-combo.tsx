/** A combobox of tags with counts: typing narrows, arrows choose, Enter takes; also a tag nobody has used when `fresh`. */
import { useId, useRef, useState } from 'preact/hooks';
import { tagCounts, TAG } from '../state/documents';
import { texts } from '../texts';
import { Icon } from '../ui/icons';

const SHOWN = 50;

export function TagCombo({ label, without, fresh, onPick }: { label: string; without: string[]; fresh?: boolean; onPick: (tag: string) => void }) {
  const t = texts.documents;
  const [text, setText] = useState('');
  const [open, setOpen] = useState(false);
  const [at, setAt] = useState(0);
  const input = useRef<HTMLInputElement>(null);
  const list = useId();
  const wanted = text.trim().toLowerCase();
  const known = (tagCounts.value ?? []).filter((x) => !without.includes(x.name) && x.name.toLowerCase().includes(wanted)).slice(0, SHOWN);
  const own = fresh && TAG.test(text.trim()) && text.trim().length <= 64 && !known.some((x) => x.name === text.trim()) ? [{ name: text.trim(), count: 0 }] : [];
  const options = [...known, ...own];
  const active = Math.min(at, options.length - 1);
  const pick = (name: string | undefined) => {
    if (!name) return;
    setText('');
    setAt(0);
    if (!fresh) setOpen(false);
    onPick(name);
  };
  const move = (by: number) => {
    setOpen(true);
    setAt((active + by + options.length) % Math.max(1, options.length));
  };
  return (
    <div class="combo">
      <Icon name="hash" size={13} />
      <input
        ref={input} class="input" role="combobox" aria-label={label} placeholder={label} value={text} autocomplete="off" aria-autocomplete="list" aria-expanded={open} aria-controls={list}
        aria-activedescendant={open && options[active] ? `${list}-${active}` : undefined}
        onFocus={() => setOpen(true)} onClick={() => setOpen(true)} onBlur={() => setOpen(false)}
        onInput={(e) => {
          setText(e.currentTarget.value);
          setAt(0);
          setOpen(true);
        }}
        onKeyDown={(e) => {
          if (e.key === 'ArrowDown') move(1);
          else if (e.key === 'ArrowUp') move(-1);
          else if (e.key === 'Enter' && open) pick(options[active]?.name);
          else if (e.key === 'Escape') {
            setOpen(false);
            setText('');
          } else return;
          e.preventDefault();
        }}
      />
      <ul id={list} class="combo-list scroll" role="listbox" aria-label={label} hidden={!open}>
        {options.map((x, i) => (
          // The press comes before the field loses its focus, which closes the list.
          <li
            key={x.name} id={`${list}-${i}`} role="option" aria-selected={i === active}
            onMouseDown={(e) => {
              e.preventDefault();
              pick(x.name);
            }}
          >
            <span class="cut">{x.name}</span><span class="n">{x.count > 0 ? x.count : t.newTag}</span>
          </li>
        ))}
        {options.length === 0 && <li class="none" role="option" aria-selected={false} aria-disabled="true">{t.noTags}</li>}
      </ul>
    </div>
  );
}
