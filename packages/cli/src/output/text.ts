/** Makes texts of users and workflows safe for a terminal. */

/** Such a text must not control the terminal: control characters are shown, not sent. */
export function safe(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it replaces.
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, (char) => {
    return `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
}

/** Like {@link safe}, for a text with colours of this program. */
export function safeKeepingColours(text: string, colours: boolean): string {
  if (!colours) return safe(text);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colour codes are what it keeps.
  const parts = text.split(/(\u001b\[\d+m)/);
  return parts.map((part, index) => (index % 2 === 1 ? part : safe(part))).join('');
}

export function oneLine(text: string): string {
  return text.trim().replace(/\s*[\r\n]+\s*/g, ' ⏎ ');
}

export function cut(text: string, maxChars: number): string {
  return text.length <= maxChars ? text : `${text.slice(0, maxChars - 1)}…`;
}

/** `1 worker`, `2 workers`. */
export function count(n: number | bigint, noun: string): string {
  return `${n.toLocaleString('en-US')} ${noun}${Number(n) === 1 ? '' : 's'}`;
}
