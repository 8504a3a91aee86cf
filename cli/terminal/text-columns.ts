import { columnsOf, plainText } from './terminal-text.ts';

/** @returns a head line and one line a row, in columns as wide as their widest cell. */
export function textColumns(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const table = [head, ...rows.map((row) => row.map(plainText))];
  const widths = head.map((_, column) => Math.max(...table.map((row) => columnsOf(row[column] ?? ''))));
  return table.map((row) =>
    row
      .map((cell, column) => cell + ' '.repeat((widths[column] ?? 0) - columnsOf(cell)))
      .join('  ')
      .trimEnd(),
  );
}

/** @returns one line a field, names in a column of their own; what is absent is left out. */
export function fieldLines(fields: Readonly<Record<string, string | undefined>>): string[] {
  const given = Object.entries(fields).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, value] as const],
  );
  const width = Math.max(0, ...given.map(([name]) => name.length));
  return given.map(([name, value]) => `${name.padEnd(width)}  ${plainText(value)}`);
}

/** @returns lines under a title, after an empty one; nothing where there are none */
export function section(title: string, lines: readonly string[]): string[] {
  return lines.some((line) => line !== '') ? ['', `${title}:`, ...lines.map((line) => `  ${line}`)] : [];
}
