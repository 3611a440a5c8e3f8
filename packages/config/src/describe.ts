import { formatDuration } from './duration.js';
import type { Option, Options } from './options.js';

/** The options as a Markdown table for the docs. */
export function describeOptions(options: Options): string {
  const rows = Object.values(options).map(
    (option) =>
      `| \`--${option.flag}\` | \`${option.env}\` | ${option.description} | ${defaultText(option)} | ${rangeText(option)} |`,
  );
  return ['| Flag | Environment | Meaning | Default | Range |', '|---|---|---|---|---|', ...rows].join('\n');
}

function defaultText(option: Option): string {
  if (option.default === undefined) return 'required';
  if (option.default === '') return 'none';
  return option.kind === 'duration' ? formatDuration(option.default) : String(option.default);
}

function rangeText(option: Option): string {
  switch (option.kind) {
    case 'integer':
      return `${option.min} to ${option.max} (${option.unit})`;
    case 'duration':
      return `${formatDuration(option.min)} to ${formatDuration(option.max)}`;
    case 'enum':
      return option.values.map((value) => `\`${value}\``).join(', ');
    case 'boolean':
      return 'true, false';
    case 'string':
      return 'text';
  }
}
