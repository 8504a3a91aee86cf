/** Puts text from users, services and guests into Markdown so that it stays plain text, never markup. Pure. */

const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g;
/** Every character that Markdown or HTML may read as markup. Not slash and quotes: the Web UI shows the backslash before them. */
const MARKUP = /[\\`*_{}[\]()<>#+\-.!|~&$=:@]/g;

/** @returns one line of plain text of at most `max` characters of the original. */
export function plain(text: string, max: number): string {
  return cut(oneLine(text), max).replace(MARKUP, '\\$&');
}

/** @returns one line as a code span, fit for a table cell as well. */
export function code(text: string, max = 200): string {
  // A pipe would end a table's cell; escaped, it would show its backslash outside of tables.
  const line = cut(oneLine(text), max).replaceAll('|', '¦');
  const fence = '`'.repeat(longestRun(line) + 1);
  const pad = line.startsWith('`') || line.endsWith('`') || line === '' ? ' ' : '';
  return `${fence}${pad}${line}${pad}${fence}`;
}

/** @returns the last `maxLines` lines, at most `max` characters, of a text as a block of code. */
export function block(text: string, maxLines: number, max: number): string[] {
  const kept = text.replace(CONTROL, '·').trimEnd().slice(-max).split('\n').slice(-maxLines);
  const fence = '`'.repeat(Math.max(3, longestRun(kept.join('\n')) + 1));
  return [`${fence}text`, ...kept, fence];
}

/** @returns a link that shows its address; only plain addresses, as Kiln makes them, become links, all else is code. */
export function link(url: string): string {
  return /^https?:\/\/[A-Za-z0-9.:-]+(\/[A-Za-z0-9./-]*)?$/.test(url) ? `[${url}](<${url}>)` : code(url);
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').replace(CONTROL, '·').trim();
}

function cut(text: string, max: number): string {
  return text.length <= max ? text : `${text.slice(0, max - 1).replace(/[\ud800-\udbff]$/, '')}…`;
}

function longestRun(text: string): number {
  return (text.match(/`+/g) ?? []).reduce((longest, run) => Math.max(longest, run.length), 0);
}
