import type { Figure } from './figure.ts';

/** Figures by name, in the order they were measured. */
export type Figures = Readonly<Record<string, Figure>>;

/** @returns the figures as one line of JSON. */
export function asJson(figures: Figures): string {
  return JSON.stringify(figures);
}

/** @returns the figures as a table for people, without a final newline. */
export function asTable(figures: Figures): string {
  const header = ['figure', 'n', 'kiln', 'p95', 'p99', 'max', 'rival', 'p95', 'p99', 'ratio'];
  const rows = Object.entries(figures).map(([name, figure]) => [
    name,
    String(figure.n),
    `${figure.kiln} ${figure.unit}`,
    `${figure.kilnP95} ${figure.unit}`,
    `${figure.kilnP99} ${figure.unit}`,
    `${figure.kilnMax} ${figure.unit}`,
    `${figure.rivalMedian} ${figure.unit}`,
    `${figure.rivalP95} ${figure.unit}`,
    `${figure.rivalP99} ${figure.unit}`,
    `${figure.ratio}×`,
  ]);
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]): string => row.map((cell, column) => pad(cell, widths, column)).join('  ');
  const rivals = Object.entries(figures).map(([name, figure]) => `${name}: against ${figure.rival}`);
  return [line(header), ...rows.map(line), '', ...rivals].join('\n').trimEnd();
}

/** Names to the left, numbers to the right. */
function pad(cell: string, widths: readonly number[], column: number): string {
  const width = widths[column] ?? 0;
  return column === 0 ? cell.padEnd(width) : cell.padStart(width);
}
