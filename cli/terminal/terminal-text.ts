/** Prepares text from guests and services for a terminal: it may hold sequences that move the cursor. */
import stringWidth from 'string-width';

const CONTROL_SEQUENCE = /\u001b\[[0-?]*[ -/]*[@-~]/g;
const CONTROL = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g;

/** @returns one line without colours; other control characters are shown as `·`, tabs and line breaks as a blank. */
export function plainText(text: string): string {
  return text
    .replace(CONTROL_SEQUENCE, '')
    .replace(/\t|\r?\n/g, ' ')
    .replace(CONTROL, '·');
}

/** @returns columns that `text` takes on a terminal. */
export function columnsOf(text: string): number {
  return stringWidth(text);
}

const characters = new Intl.Segmenter(undefined, { granularity: 'grapheme' });

/** Cuts to `columns`, the last of them `…` where something was cut. */
export function fit(text: string, columns: number): string {
  if (columnsOf(text) <= columns) return text;
  let kept = '';
  let used = 0;
  for (const { segment } of characters.segment(text)) {
    used += columnsOf(segment);
    if (used > columns - 1) break;
    kept += segment;
  }
  return columns > 0 ? `${kept}…` : '';
}

/** Breaks at blanks into lines of at most `columns`; the last of `maxLines` ends in `…` where more would follow. */
export function wrap(text: string, columns: number, maxLines: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (line === '' || columnsOf(longer) <= columns) line = longer;
    else {
      lines.push(line);
      line = word;
    }
  }
  lines.push(line);
  const shown = lines.slice(0, maxLines);
  if (lines.length > maxLines) shown[maxLines - 1] = `${shown[maxLines - 1]} …`;
  return shown.map((each) => (columnsOf(each) <= columns ? each : fit(each, columns)));
}

/** @returns e.g. `0.4 s`, `12.3 s`, `2 min 05 s`, `1 h 02 min`, `3 d 04 h`. */
export function durationText(ms: number): string {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const pad = (value: number): string => String(value).padStart(2, '0');
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${pad(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86_400)} d ${pad(Math.floor((whole % 86_400) / 3600))} h`;
}

const CODES = { green: 32, red: 31, yellow: 33, cyan: 36, dim: 2, bold: 1 } as const;
export type Colour = keyof typeof CODES;

/** @returns `text` in a colour where colours are wanted. */
export function paint(text: string, colour: Colour, wanted: boolean): string {
  return wanted && text !== '' ? `\u001b[${CODES[colour]}m${text}\u001b[0m` : text;
}
