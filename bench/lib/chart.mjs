// A bar chart as SVG: one group per kind of work, bars relative to the largest of the group.
const WIDTH = 720;
const BAR = 22;

/** @param medians work → system → figure */
export function chart(medians) {
  const lines = [];
  let y = 24;
  for (const [work, bySystem] of Object.entries(medians)) {
    if (bySystem.perdure === undefined) continue;
    lines.push(`<text x="12" y="${y}" font-weight="bold">${work}</text>`);
    y += 12;
    const largest = Math.max(...Object.values(bySystem));
    for (const [system, value] of Object.entries(bySystem)) {
      const width = Math.max(2, (value / largest) * (WIDTH - 300));
      const colour = system === 'perdure' ? '#2563eb' : '#94a3b8';
      const shown = value >= 100 ? Math.round(value).toLocaleString('en') : value.toFixed(2);
      lines.push(`<text x="12" y="${y + 15}">${system}</text>`);
      lines.push(`<rect x="130" y="${y}" width="${width.toFixed(1)}" height="${BAR - 4}" rx="2" fill="${colour}"/>`);
      lines.push(`<text x="${(138 + width).toFixed(1)}" y="${y + 14}">${shown}</text>`);
      y += BAR;
    }
    y += 28;
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" font-family="sans-serif" font-size="13" fill="#334155">
<title>Perdure beside others</title>
<rect width="100%" height="100%" fill="white"/>
${lines.join('\n')}
</svg>
`;
}
