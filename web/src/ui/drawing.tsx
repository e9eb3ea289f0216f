/** What a session looks like, drawn from the page's own shapes. */
export function Drawing() {
  const line = (x: number, y: number, w: number, tone = 'var(--line-strong)', hgt = 5) => <rect x={x} y={y} width={w} height={hgt} rx={hgt / 2} fill={tone} />;
  return (
    <div class="drawing" aria-hidden="true">
      <svg viewBox="0 0 460 300">
        <rect x="0.5" y="0.5" width="186" height="299" rx="9" fill="var(--surface)" stroke="var(--line)" />
        <rect x="72" y="18" width="98" height="38" rx="9" fill="var(--accent-soft)" />
        {line(84, 30, 72, 'var(--accent)')}{line(84, 41, 48, 'var(--accent)')}
        {line(18, 74, 120)}{line(18, 86, 138)}{line(18, 98, 84)}
        <rect x="18.5" y="116.500" width="149" height="74" rx="7" fill="var(--surface)" stroke="var(--line)" />
        <circle cx="31" cy="129" r="4" fill="none" stroke="var(--buoy)" stroke-width="2" />{line(41, 127, 64)}
        <rect x="19" y="141" width="148" height="49" rx="5" fill="var(--term)" />
        {line(28, 151, 62, 'var(--term-prompt)', 4)}{line(28, 161, 104, 'var(--term-dim)', 4)}{line(28, 171, 84, 'var(--term-dim)', 4)}
        {line(18, 206, 132)}{line(18, 218, 98)}{line(18, 230, 40, 'var(--buoy)')}
        <rect x="12.5" y="262.500" width="161" height="26" rx="8" fill="var(--surface)" stroke="var(--line-strong)" /><rect x="150" y="267" width="18" height="17" rx="5" fill="var(--ink)" />
        <rect x="200" y="0" width="260" height="300" rx="9" fill="var(--term)" />
        <rect x="216" y="34" width="228" height="206" rx="6" fill="light-dark(#f7f6f3, #e6e9e8)" /><rect x="216" y="34" width="228" height="20" rx="6" fill="light-dark(#dcd9d1, #c9cfce)" />
        <circle cx="226" cy="44" r="3" fill="#f0693c" /><circle cx="236" cy="44" r="3" fill="#b9b4a8" /><circle cx="246" cy="44" r="3" fill="#b9b4a8" />
        {line(230, 68, 88, '#15191b', 7)}
        {[90, 112, 134, 156, 178].map((y) => <g key={y}>{line(230, y, 46, '#9aa1a3')}{line(292, y, 70, '#c3c8c8')}{line(382, y, 40, y === 134 ? '#f0693c' : '#5f9d97')}<rect x="230" y={y + 12} width="200" height="1" fill="#dedbd3" /></g>)}
        {[[240, 26], [262, 40], [284, 18], [306, 33], [328, 12]].map(([x, t]) => <rect key={x} x={x} y={234 - t!} width="14" height={t} rx="2" fill="#2b8a82" />)}
        <circle cx="402" cy="137" r="13" fill="#f0693c33" stroke="#f0693c" stroke-width="2.500" /><path d="M402 137l5 15 3.500-5.500 6-1.500z" fill="#15191b" stroke="#fff" stroke-width="1.200" />
        <rect x="216" y="12" width="44" height="13" rx="6.500" fill="#f0693c" /><circle cx="225" cy="18.500" r="2.500" fill="#fff" />{line(231, 16.500, 22, '#fff', 4)}
        <rect x="200" y="276" width="260" height="24" rx="0" fill="#2a3236" /><rect x="210" y="282" width="12" height="12" rx="3" fill="#7fd8cd" /><rect x="228" y="282" width="40" height="12" rx="3" fill="#46525a" />
      </svg>
    </div>
  );
}
