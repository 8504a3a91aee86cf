import type { WorkloadView } from '../../contracts/api/workload-view.ts';
import { isFinal, type Stage } from '../../domain/workload/stages.ts';
import { type Colour, durationText, fit, paint, plainText, wrap } from './terminal-text.ts';

export interface StageTableOptions {
  /** Milliseconds since the epoch: durations of unfinished stages end here. */
  readonly now: number;
  /** Columns that a line may take. */
  readonly width: number;
  readonly color: boolean;
}

/** How one stage went. */
export type StageStatus = 'done' | 'current' | 'failed' | 'ended' | 'ahead' | 'skipped';

export interface StageRow {
  readonly stage: Stage;
  readonly status: StageStatus;
  /** Milliseconds spent in it; absent where it was not entered. */
  readonly durationMs?: number;
}

const PATH: readonly Stage[] = ['pending', 'validate', 'build', 'deploy', 'running'];
const MARKS: Readonly<Record<StageStatus, { readonly mark: string; readonly colour: Colour }>> = {
  done: { mark: '✓', colour: 'green' },
  current: { mark: '●', colour: 'cyan' },
  failed: { mark: '✗', colour: 'red' },
  ended: { mark: '■', colour: 'yellow' },
  ahead: { mark: '·', colour: 'dim' },
  skipped: { mark: '-', colour: 'dim' },
};
/** `  ✓ validate  ` and a duration right-aligned in ten columns. */
const NAME_COLUMNS = 10;
const DURATION_COLUMNS = 12;
const INDENT = 4 + NAME_COLUMNS;
const NOTE_COLUMN = INDENT + DURATION_COLUMNS + 2;
const MAX_REASON_LINES = 6;
const MIN_WIDTH = NOTE_COLUMN + 12;

/** @returns one row for each stage on the way to `running`, in order. Pure. */
export function stageRows(view: WorkloadView, now: number): StageRow[] {
  return PATH.map((stage) => {
    const enteredAt = stage === 'pending' ? view.createdAt : view.transitions.find(({ to }) => to === stage)?.at;
    if (enteredAt === undefined) return { stage, status: isFinal(view.stage) ? 'skipped' : 'ahead' };
    const left = view.transitions.find(({ from }) => from === stage);
    const end = left === undefined ? now : Date.parse(left.at);
    return { stage, status: statusOf(stage, left?.to), durationMs: Math.max(0, end - Date.parse(enteredAt)) };
  });
}

/** A service that was stopped while it ran has ended as intended. */
function statusOf(stage: Stage, next: Stage | undefined): StageStatus {
  if (next === undefined) return 'current';
  if (next === 'failed') return 'failed';
  return next === 'stopped' && stage !== 'running' ? 'ended' : 'done';
}

/**
 * Draws a workload: its stages with marks and durations, why it waits, leaves or has failed, and its address.
 * Pure; no line is wider than `width` (at least 40), none holds a character that steers the terminal.
 */
export function renderStageTable(view: WorkloadView, options: StageTableOptions): string[] {
  const width = Math.max(options.width, MIN_WIDTH);
  const line = (mark: string, colour: Colour, text: string): string =>
    `${paint(mark, colour, options.color)} ${fit(plainText(text), width - 2)}`;
  return [
    paint(fit(plainText(`${view.id}  ${view.servicePath}`), width), 'bold', options.color),
    ...stageRows(view, options.now).flatMap((row) => drawRow(view, row, { ...options, width })),
    ...finalLine(view, { ...options, width }),
    ...(view.stage === 'running' && view.url !== undefined ? [line('→', 'green', view.url)] : []),
    ...view.unreleased.map(({ name, hostId, message, freedAt }) =>
      freedAt === undefined
        ? line('!', 'yellow', `not released: ${name} on ${hostId}: ${message}`)
        : line('✓', 'green', `released later: ${name} on ${hostId}, gone by ${freedAt}`),
    ),
    ...view.notes.map((note) => line('!', 'yellow', note)),
  ];
}

function drawRow(view: WorkloadView, row: StageRow, { now, width, color }: StageTableOptions): string[] {
  const { mark, colour } = MARKS[row.status];
  const name = row.stage.padEnd(NAME_COLUMNS);
  const duration = row.durationMs === undefined ? '' : durationText(row.durationMs).padStart(DURATION_COLUMNS);
  const dim = row.status === 'ahead' || row.status === 'skipped';
  const [first, ...rest] = reasonLines(reasonOf(view, row, now), width - NOTE_COLUMN);
  const start = `  ${paint(mark, colour, color)} ${dim ? paint(name, 'dim', color) : name}${duration}`;
  const painted = (text: string): string => paint(text, row.status === 'failed' ? 'red' : 'yellow', color);
  return [
    (first === undefined ? start : `${start}  ${painted(first)}`).trimEnd(),
    ...rest.map((text) => `${' '.repeat(NOTE_COLUMN)}${painted(text)}`),
  ];
}

function reasonLines(reason: string | undefined, columns: number): string[] {
  return reason === undefined ? [] : wrap(plainText(reason), columns, MAX_REASON_LINES);
}

/** Why a stage takes long, is about to end, or has ended badly. */
function reasonOf(view: WorkloadView, row: StageRow, now: number): string | undefined {
  const since = (at: string): string => durationText(now - Date.parse(at));
  if (row.status === 'failed') return `${view.code ?? 'INTERNAL'}: ${view.error ?? 'no message'}`;
  if (row.status !== 'current') return undefined;
  if (view.leaving !== undefined) return `leaving for ${since(view.leaving.since)}: ${view.leaving.cause}`;
  if (view.waiting !== undefined) return `waiting for ${since(view.waiting.since)}: ${view.waiting.reason}`;
  return undefined;
}

function finalLine(view: WorkloadView, { width, color }: StageTableOptions): string[] {
  if (!isFinal(view.stage)) return [];
  const { mark, colour } = MARKS[view.stage === 'failed' ? 'failed' : 'done'];
  const total = view.durationMs === undefined ? '' : durationText(view.durationMs).padStart(DURATION_COLUMNS);
  const cause = view.stage === 'stopped' ? (view.transitions.at(-1)?.cause ?? '') : '';
  const text = fit(plainText(cause), width - NOTE_COLUMN);
  return [`  ${paint(mark, colour, color)} ${view.stage.padEnd(NAME_COLUMNS)}${total}  ${text}`.trimEnd()];
}
